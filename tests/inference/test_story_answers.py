"""A run on stories from its training to answers in a file: what is drawn, written, and wrong."""

import json

import jax
import numpy as np
import pytest

import practicum
from practicum.training import config as config_lib
from practicum.training.defaults import base

ROOMS = ('hall', 'attic', 'shed')
STORIES = ''.join(f'1 Ann moved to the {a}.\n2 Bob moved to the {b}.\n'
                  f'3 Where is Ann?\t{a}\t1\n4 Where is Bob?\t{b}\t2\n' for a in ROOMS for b in ROOMS if a != b)


def get_config():
    config = base()
    config.total = '150 steps'
    config.batch_size = 8
    config.log_every = '50 steps'
    config.parallel.devices = 1
    config.tensorboard = False
    config.data.source = 'stories'
    config.text.max_sentences, config.text.max_length = 3, 6
    config.model = {'name': 'memory_network', 'width': 8, 'hops': 2, 'linear_steps': 10, 'init_scale': 0.3}
    config.task = {'name': 'question_answering'}
    config.optimizer.learning_rate = 0.03
    config.evaluation.every = config.checkpoint.every = '150 steps'
    config.evaluation.periodic, config.evaluation.final = (), ('test',)
    config.checkpoint.best_metric = ''
    return config


def start(folder, workdir: str, *overrides: str):
    from practicum.training.loop import train
    assert train(config_lib.load(__file__, (f'data.name={folder}/ann', *overrides)), folder / workdir) == 0
    return folder / workdir


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """The workdir of a run that has learned where Ann and Bob are."""
    folder = tmp_path_factory.mktemp('stories')
    for split in ('train', 'test'):
        (folder / f'ann_{split}.txt').write_text(STORIES)
    return start(folder, 'run')


def test_it_learns_and_shows_where_it_looks(run):
    assert json.loads((run / 'result.json').read_text())['metrics']['test/accuracy'] == 1
    rows = json.loads((run / 'test_examples.json').read_text())['examples']
    assert rows[0]['story'] == 'Ann moved to the hall. Bob moved to the attic.'
    assert rows[0]['question'] == 'Where is Ann?' and rows[0]['line'] == 3
    assert all((run / f'test_{name}.png').stat().st_size > 1000 for name in ('attention', 'worst_examples'))


def test_a_run_that_ends_in_the_linear_start_goes_on_in_it(run):
    """How many of its steps are done is part of the state."""
    start(run.parent, 'half', 'total=5 steps', 'figures=False')
    half = practicum.load(start(run.parent, 'half', 'figures=False'), 'last')
    whole = practicum.load(run, 'last')
    assert float(whole.variables['batch_stats']['steps']) == 150
    jax.tree.map(np.testing.assert_array_equal, whole.variables, half.variables)


def test_questions_in_a_file_are_answered(run, tmp_path, call_launch):
    file = tmp_path / 'mine.txt'
    file.write_text('1 Ann moved to the attic.\n2 Bob moved to the shed.\n3 Where is Ann?\n4 Where is Bob?\thall\t2\n')
    said = call_launch('predict', '--workdir', run, file)
    lines = said.out.splitlines()
    assert said.code == 0 and [line.split('?')[1].split()[0] for line in lines] == ['attic', 'shed']
    assert f'{file}:3  Where is Ann?' in lines[0] and '0 of 1 answers as in the files' in said.err
    assert call_launch('predict', '--workdir', run, file, '--output', tmp_path / 'a.json', '--top_k', 2).code == 0
    row = json.loads((tmp_path / 'a.json').read_text())[0]
    assert row['classes'][0] == 'attic' and len(row['percent']) == 2
    assert row['looked_at'][-1] == 'Ann moved to the attic.' and 'answer' not in row
    call_launch('predict', '--workdir', run, file, '--output', tmp_path / 'a.csv')
    assert (tmp_path / 'a.csv').read_text().splitlines()[0] == 'file,question,class_1,percent_1,answer'


def test_a_story_that_is_cut_is_named(run, tmp_path, call_launch):
    told = '\n'.join(f'{number} Bob moved to the shed.' for number in range(2, 5))
    (tmp_path / 'long.txt').write_text(f'1 Ann moved to the attic.\n{told}\n5 Where is Ann?\n')
    said = call_launch('predict', '--workdir', run, tmp_path / 'long.txt', '--format', 'json')
    assert said.code == 0 and '1 of 1 stories are longer than config.text.max_sentences = 3: their last' in said.err


@pytest.mark.parametrize('args, parts', [
    (('missing.txt',), ('missing.txt',)), (('{folder}',), ('is a folder',)), (('{empty}',), ('holds no question',)),
    (('{empty}', '--top_k', 0), ('--top_k 0',)), (('{empty}', '--output', 'a.png'), ('.csv', '.json')),
    (('{empty}', '--invert'), ('--invert is for images', 'answers questions about stories')),
    (('{empty}', '--heat_map'), ('answers questions about stories',))])
def test_what_cannot_be_answered_is_one_line(run, args, parts, tmp_path, call_launch):
    (tmp_path / 'empty.txt').write_text('1 Ann moved.\n')
    places = {'folder': tmp_path, 'empty': tmp_path / 'empty.txt'}
    said = call_launch('predict', '--workdir', run, *(str(arg).format(**places) for arg in args))
    assert said.code == 2 and said.err.startswith('error: ') and said.err.count('\n') == 1 and said.out == ''
    assert all(part in said.err for part in parts)


def test_max_sentences_belongs_to_the_model(run, call_launch):
    said = call_launch('evaluate', '--workdir', run, '--config.text.max_sentences=5')
    assert said.code == 2 and said.err.splitlines()[-1].startswith('error: --config.text.max_sentences=5: ')
    assert 'at most 3 sentences' in said.err and 'time0' not in said.err


def test_other_commands_say_what_it_is(run, call_launch):
    said = call_launch('explain', '--workdir', run, 'a.png')
    assert said.code == 2 and 'answers questions about stories' in said.err and said.err.count('\n') == 1
    said = call_launch('neighbors', '--workdir', run, '--words', 'ann')
    assert said.code == 2 and 'no vectors of words' in said.err and said.err.count('\n') == 1
