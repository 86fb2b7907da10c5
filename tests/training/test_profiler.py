"""Traces: a run writes one where it says, with its steps by number; processes do not write over one another."""

import gzip
import json

import jax
import pytest

from practicum.training.loop import train
from practicum.training.profiler import Profiler
from tests.tiny import tiny_config


@pytest.mark.parametrize('mode', ['pmap', 'jit'])
def test_a_trace_names_the_steps(tmp_path, mode):
    config = tiny_config('total=6 steps', 'profile.start_step=3', 'profile.steps=2', f'parallel.mode={mode}',
                         'parallel.devices=2', 'evaluation.every=', 'evaluation.final=()', 'checkpoint.best_metric=')
    assert train(config, tmp_path) == 0
    trace, = tmp_path.glob('profile/plugins/profile/*/*.trace.json.gz')
    events = json.loads(gzip.decompress(trace.read_bytes()))['traceEvents']
    assert [event['args']['step_num'] for event in events if event.get('name') == 'train'] == ['3', '4']
    assert list(trace.parent.glob('*.xplane.pb'))


def test_each_of_several_processes_has_a_folder(tmp_path, monkeypatch):
    """JAX names the files by machine and second: two processes of one machine wrote the same file."""
    begun = []
    monkeypatch.setattr(jax.profiler, 'start_trace', begun.append)
    monkeypatch.setattr(jax, 'process_count', lambda: 2)
    for rank in range(2):
        monkeypatch.setattr(jax, 'process_index', lambda rank=rank: rank)
        Profiler(0, 1, tmp_path).before(0)
    assert begun == [str(tmp_path / 'process_0'), str(tmp_path / 'process_1')]
