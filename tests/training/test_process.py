"""What a process prepares before JAX wakes up, and what it says when it has to go."""

import jax
import numpy as np
import pytest

from practicum.training import process


@pytest.mark.parametrize('training, cpu_devices, plugins, backend, kept', [
    (True, 0, False, 'cpu', ['before']), (True, 0, True, 'cpu', ['after']), (True, 0, True, 'gpu', []),
    (False, 0, False, 'cpu', []), (True, 8, False, 'cpu', [])])
def test_freed_memory_is_kept_for_training_on_a_cpu_alone(training, cpu_devices, plugins, backend, kept, monkeypatch):
    """One heap without an end would hurt the decoding threads of a machine with GPUs; JAX's threads keep their own."""
    called, awake = [], []
    monkeypatch.setattr(process, '_keep_freed_memory', lambda: called.append('after' if awake else 'before'))
    monkeypatch.setattr(process, '_cpus_alone', lambda jax: not plugins)
    monkeypatch.setattr(jax, 'default_backend', lambda: awake.append(True) or backend)
    monkeypatch.setattr(jax.config, 'update', lambda *args: None)
    monkeypatch.setenv('NPROC', '1')
    process.prepare(training=training, cpu_devices=cpu_devices)
    assert called == kept


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
