"""Words near others, of a run of skip-gram and of a language model."""

import json

import numpy as np
import pytest

from practicum.training import config as config_lib
from practicum.training.defaults import base
from practicum.training.loop import train
from tests import tiny_text


def get_config():
    config = base()
    config.total = '20 steps'
    config.batch_size = 16
    config.parallel.devices = 1
    config.tensorboard = config.figures = False
    config.data.source = 'text'
    config.text.window = 2
    config.model = {'name': 'skip_gram', 'width': 6}
    config.task = {'name': 'skip_gram', 'negatives': 2, 'words': ('ant',)}
    config.optimizer.learning_rate = 0.1
    config.evaluation.every = config.checkpoint.every = '10 steps'
    config.evaluation.sets.validation.split = 'valid'
    config.checkpoint.best_metric, config.checkpoint.best_mode = 'validation/loss', 'min'
    return config


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
    return tiny_text.write_corpus(tmp_path_factory.mktemp('words'))


@pytest.fixture(scope='module')
def run(corpus):
    """A run of 20 steps."""
    assert train(config_lib.load(__file__, (f'data.name={corpus}',)), corpus / 'run') == 0
    return corpus / 'run'


def test_neighbours_are_written_down_while_it_learns(run):
    rows = [json.loads(line) for line in (run / 'samples.jsonl').read_text().splitlines()]
    assert {row['step'] for row in rows} == {10, 20}
    assert all(row['samples'][0]['text'].startswith('ant: ') for row in rows)


def test_an_interrupted_run_goes_on_alike(run, corpus):
    """Pairs and negatives are functions of seed and step."""
    import practicum
    how = (f'data.name={corpus}', 'total=10 steps')
    assert train(config_lib.load(__file__, how), corpus / 'half') == 0
    assert train(config_lib.load(__file__, how[:1]), corpus / 'half') == 0
    whole, half = (practicum.load(str(workdir), 'last') for workdir in (run, corpus / 'half'))
    for name in ('embedding', 'context'):
        np.testing.assert_array_equal(whole.variables['params'][name]['embedding'],
                                      half.variables['params'][name]['embedding'])


def test_neighbors_takes_words_and_sums(run, call_launch):
    said = call_launch('neighbors', '--workdir', run, '--words', 'bee', 'cat - bee + dog', '--top_k', 2)
    lines = said.out.splitlines()
    assert said.code == 0 and [line for line in lines if line[0] != ' '] == ['bee', 'cat - bee + dog']
    assert len(lines) == 6 and not {'cat', 'bee', 'dog'} & {line.split()[1] for line in lines[4:]}
    rows = json.loads(call_launch('neighbors', '--workdir', run, '--words', 'bee', '--format', 'json').out)
    assert [row['rank'] for row in rows] == [1, 2, 3, 4, 5] and set(rows[0]) == {'query', 'rank', 'word', 'similarity'}


@pytest.mark.parametrize('args, parts', [
    (('--words', 'bees', '--workdir', '{run}'), ("'bees'", '12 words', 'did you mean bee?')),
    (('--words', 'bee'), ('--words needs --workdir',)), ((), ('images or --words',)),
    (('a.png', '--words', 'bee', '--workdir', '{run}'), ('not both',)),
    (('--words', 'bee', '--workdir', '{run}', '--top_k', '0'), ('--top_k 0',)),
    (('--words', 'bee', '--workdir', '{run}', '--output', 'a.png'), ('--output',)),
    (('--words', 'bee', '--workdir', '{run}', '--index', 'none.npz'), ('--index is of images',)),
    (('--words', '', '--workdir', '{run}'), ('an empty word',)),
    (('--words', 'one', '--workdir', '{digits}'), ('no vectors of words', 'mlp'))])
def test_what_cannot_be_asked_is_one_line(args, parts, run, trained_run, call_launch):
    said = call_launch('neighbors', *(arg.format(run=run, digits=trained_run) for arg in args))
    assert said.code == 2 and said.err.startswith('error: ') and said.err.count('\n') == 1
    assert all(part in said.err for part in parts)
