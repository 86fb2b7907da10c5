"""What a process prepares before JAX wakes up, and what it says when it has to go."""

import jax
import numpy as np
import pytest

from practicum.training import process


@pytest.mark.parametrize('training, cpu_devices, backend, kept', [
    (True, 0, 'cpu', True), (False, 0, 'cpu', False), (True, 0, 'gpu', False), (True, 8, 'cpu', False)])
def test_freed_memory_is_kept_for_training_on_a_cpu_alone(training, cpu_devices, backend, kept, monkeypatch):
    """One heap without an end would hurt the decoding threads of a machine with GPUs."""
    called = []
    monkeypatch.setattr(process, '_keep_freed_memory', lambda: called.append(True))
    monkeypatch.setattr(jax, 'default_backend', lambda: backend)
    monkeypatch.setattr(jax.config, 'update', lambda *args: None)
    monkeypatch.setenv('NPROC', '1')
    process.prepare(training=training, cpu_devices=cpu_devices)
    assert called == [True] * kept


def test_no_memory_is_one_line(capsys):
    with pytest.raises(MemoryError) as failure:
        np.empty(2**59, np.uint8)
    assert process.leave_after(failure.value) == 2
    for text in ('RESOURCE_EXHAUSTED: no room\nfor 9 bytes', 'INTERNAL: failed: Out of memory\nallocating 9 bytes'):
        assert process.leave_after(jax.errors.JaxRuntimeError(text)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all(line.startswith('error: out of memory: ') for line in lines)
    assert '9 bytes; make config.batch_size' in lines[1]


def test_a_bug_is_shown(capsys):
    assert process.leave_after(ZeroDivisionError()) is None
    assert process.leave_after(jax.errors.JaxRuntimeError('INTERNAL: a bug')) is None
    assert capsys.readouterr().err == ''
