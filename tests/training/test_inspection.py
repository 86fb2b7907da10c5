"""What config.inspect shows of a training, and that looking changes nothing."""

import json

import jax
import numpy as np
import pytest

from practicum.common.errors import UserError
from practicum.training import components, histograms, inspection, program_summary
from practicum.training import config as config_lib
from practicum.training.array_paths import flatten
from practicum.training.loop import train
from practicum.training.writers import HISTOGRAMS_FILE, PARAMETERS_FILE, read_rows
from tests.tiny import tiny_config

ON = ('inspect.histograms_every=2 steps',)
ALIKE = ('total=4 steps', 'evaluation.every=', 'evaluation.final=()', 'evaluation.periodic=("validation",)',
         'checkpoint.every=', 'optimizer.clip_norm=0.01', 'model.dropout=0.0')


@pytest.fixture(scope='module')
def looked(tmp_path_factory):
    """A training on two devices that was looked at, with TensorBoard."""
    folder = tmp_path_factory.mktemp('looked')
    mode = ('parallel.mode=pmap', 'parallel.devices=2')
    assert train(tiny_config(*ON, *ALIKE, *mode, 'inspect.program=True', 'tensorboard=True'), folder) == 0
    return folder


@pytest.fixture(scope='module')
def looked_in_shards(tmp_path_factory):
    """The same of parameters that lie in shards."""
    folder = tmp_path_factory.mktemp('shards')
    mode = ('parallel.mode=jit', 'parallel.devices=2', 'parallel.sharding=fsdp', 'parallel.min_shard_mb=0.0')
    assert train(tiny_config(*ON, *ALIKE, *mode), folder) == 0
    return folder


@pytest.mark.parametrize('how', ['looked', 'looked_in_shards'])
def test_histograms_are_those_of_the_weights_and_of_the_gradient_of_the_loss(how, request):
    """Of the whole batch, before it is clipped, whatever lies where."""
    rows = read_rows(request.getfixturevalue(how), HISTOGRAMS_FILE)
    assert [row['step'] for row in rows if row['name'] == 'gradients/logits/kernel'] == [1, 2, 4]
    training = components.build_training(tiny_config(*ALIKE, 'parallel.devices=1'))
    state = training.initial_state()
    gradients, *_ = jax.jit(training.gradients)(state, training.batches(0))
    for path, gradient in flatten(gradients).items():
        first = next(row for row in rows if row['name'] == f'gradients/{path}')
        gradient = np.asarray(gradient)
        assert sum(first['counts']) == gradient.size
        np.testing.assert_allclose([first['low'], first['high']], [gradient.min(), gradient.max()], rtol=1e-3,
                                   atol=1e-6)
    norm = np.sqrt(sum(float((np.asarray(g) ** 2).sum()) for g in jax.tree.leaves(gradients)))
    assert norm > 0.01, 'clipping would show'
    last = next(row for row in rows if row['name'] == 'weights/logits/kernel' and row['step'] == 4)
    assert sum(last['counts']) == 160


def test_the_numbers_of_a_training_do_not_depend_on_whether_it_is_looked_at(looked, tmp_path):
    assert train(tiny_config(*ALIKE, 'parallel.devices=2'), tmp_path) == 0
    one, other = ([{key: value for key, value in row.items() if key != 'timings'} for row in read_rows(folder)]
                  for folder in (looked, tmp_path))
    assert one == other
    assert not (tmp_path / HISTOGRAMS_FILE).exists() and not (tmp_path / 'program.json').exists()


def test_tensorboard_itself_shows_histograms_program_and_graph(looked):
    pytest.importorskip('tensorflow')
    from google.protobuf import text_format
    from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
    from tensorboard.compat.proto.graph_pb2 import GraphDef
    from tensorboard.context import RequestContext
    from tensorboard.plugins import base_plugin
    from tensorboard.plugins.graph.graphs_plugin import GraphsPlugin
    from tensorboard.plugins.histogram.histograms_plugin import HistogramsPlugin
    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRun(str(looked), 'run')
    multiplexer.Reload()
    context = base_plugin.TBContext(data_provider=data_provider.MultiplexerDataProvider(multiplexer, str(looked)))
    request = RequestContext()
    shown, _ = HistogramsPlugin(context).histograms_impl(request, 'weights/dense1/kernel', 'run', '', 10)
    (_, step, bins), *_ = shown
    assert step == 1 and sum(count for _, _, count in bins) == 64 * 16
    found = text_format.Parse(GraphsPlugin(context).graph_impl(request, 'run', None, False, '')[0], GraphDef())
    nodes = {node.name: node for node in found.node}
    product = nodes['MLP/dense1/dot_general']
    assert 'MLP/dense1/kernel' in product.input
    assert all(source in nodes for node in found.node for source in node.input)
    assert [dim.size for dim in nodes['MLP/logits/kernel'].attr['_output_shapes'].list.shape[0].dim] == [16, 10]


def test_the_summary_counts_operations_and_lists_layers(looked):
    facts = json.loads((looked / 'program.json').read_text())
    assert facts['flops'] > 3 * 2 * 8 * (64 * 16 + 16 * 10), 'forward and backward, 8 rows a device'
    assert facts['memory_bytes']['arguments'] > 0
    assert any(kind.startswith('all-') for kind in facts['operations']), 'two devices talk'
    header, first, *_ = (looked / 'program_operations.csv').read_text().splitlines()
    assert header == 'operation,launched,in_fusions' and first.partition(',')[0] == next(iter(facts['operations']))
    text = (looked / 'program.txt').read_text()
    assert 'float32[64,16]' in text and 'Total Parameters: 1,210' in text


def test_operations_within_fusions_and_loops_are_told_from_those_launched():
    program = '''HloModule step

%fused_computation (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  %a = f32[4]{0} add(%p, %p)
  ROOT %m = f32[4]{0} multiply(%a, %p)
}

%sum (x: f32[], y: f32[]) -> f32[] {
  ROOT %s = f32[] add(%x, %y)
}

ENTRY %main (p0: f32[4]) -> (f32[4], f32[]) {
  %f = f32[4]{0} fusion(%p0), kind=kLoop, calls=%fused_computation
  %r = f32[] reduce(%f, %zero), dimensions={0}, to_apply=%sum
  %c = (f32[2]{0}, /*index=1*/f32[]) custom-call(%f), custom_call_target="__dot"
  ROOT %t = (f32[4]{0}, f32[]) tuple(%f, %r)
}
'''
    assert program_summary.operations(program) == {
        'custom-call __dot': [1, 0], 'fusion': [1, 0], 'reduce': [1, 0], 'add': [0, 1], 'multiply': [0, 1]}


@pytest.mark.parametrize('values', [[1.0, 2.0, 2.0, 5.0], [3.0, 3.0], [0.0]], ids=str)
def test_every_value_is_in_one_bin(values):
    found = histograms.to_histograms('weights', {'a': np.float32(values)},
                                     jax.device_get(jax.jit(histograms.counted)({'a': np.float32(values)})))
    one = found['weights/a']
    assert one.counts.sum() == len(values) and one.low <= min(values) and one.high >= max(values)
    if len(set(values)) > 1:
        np.testing.assert_array_equal(one.counts, np.histogram(np.float32(values), one.edges)[0])


def test_what_is_not_finite_is_left_out():
    tree = {'a': np.float32([1, np.nan]), 'b': np.float32([1, 2])}
    assert list(histograms.to_histograms('weights', tree, jax.device_get(histograms.counted(tree)))) == ['weights/b']


def test_the_path_of_a_line_is_kept_drawn_and_goes_on_when_resumed(tmp_path):
    overrides = ['parallel.devices=1', 'tensorboard=False', 'inspect.parameters_every=2 steps']
    assert train(config_lib.load('line', [*overrides, 'total=4 steps']), tmp_path) == 0
    assert train(config_lib.load('line', [*overrides, 'total=7 steps']), tmp_path) == 0
    rows = read_rows(tmp_path, PARAMETERS_FILE)
    assert [row['step'] for row in rows] == [0, 2, 4, 6, 7]
    assert rows[0]['parameters'] == {'m': -1.0, 'b': 5.0}
    assert rows[-1]['parameters'] == json.loads((tmp_path / 'result.json').read_text())['learned']
    assert (tmp_path / 'loss_surface.png').stat().st_size > 10_000


def test_a_path_is_for_small_models():
    training = components.build_training(tiny_config('inspect.parameters_every=2 steps'))
    with pytest.raises(UserError, match='of at most 16 parameters, this one has more'):
        inspection.build(training, training.initial_state())
