"""launch.py generate: what is written after a prompt, and what is said of mistakes."""

import itertools
import json

import jax.numpy as jnp
import numpy as np
import pytest

from practicum.inference.run import Run
from practicum.training.loop import train
from tests.tiny_text import WORDS, text_config, write_corpus
from tests.untrained import of_texts, untrained

QUIET = ('parallel.devices=1', 'evaluation.periodic=()', 'evaluation.final=()', "checkpoint.best_metric=''",
         'model.layers=1', 'total=3 steps')
SPECIAL = ('<pad>', '<start>', '<end>', '<unk>')


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A model of words; a tenth of its text is words that are too rare."""
    folder = tmp_path_factory.mktemp('words')
    corpus = write_corpus(folder / 'corpus')
    with (corpus / 'train.txt').open('a') as file:
        file.write('\n'.join(f'cat rare{i} dog' for i in range(30)) + '\n')
    # Large weights, so that what comes next depends on more than the last word.
    config = text_config(corpus, *QUIET, 'text.min_count=2', 'text.lowercase=True', 'model.init_scale=2.0')
    assert train(config, folder / 'run') == 0
    return folder / 'run'


@pytest.fixture(scope='module')
def letters(tmp_path_factory):
    """A model of characters."""
    folder = tmp_path_factory.mktemp('letters')
    config = text_config(write_corpus(folder / 'corpus'), *QUIET, 'text.tokens=characters', 'model.inputs=one_hot')
    assert train(config, folder / 'run') == 0
    return folder / 'run'


@pytest.fixture
def generate(call_launch, run):
    """Returns generate(*args, workdir) -> the rows of --format json, after checks."""
    def call(*args, workdir=run):
        done = call_launch('generate', '--workdir', workdir, '--format', 'json', *args)
        assert done.code == 0, done.err
        return json.loads(done.out)
    return call


def count(text: str) -> int:
    """Tokens of a text of words: the ends of lines are some."""
    lines = text.split('\n')
    return sum(len(line.split()) for line in lines) + len(lines) - 1


# What is written


def test_text_goes_on_after_the_prompt(call_launch, run):
    done = call_launch('generate', '--workdir', run, '--prompt', 'the cat', 'Dog\n', '--length', 12)
    assert done.code == 0
    assert done.out.startswith('the cat') and '\n\nDog\n' in done.out
    assert done.err == "warning: the model does not know 'the': read as <unk>\n"
    assert not any(token in done.out for token in SPECIAL)


def test_rows_of_json(generate):
    rows = generate('--prompt', 'cat', 'ANT bee ', '', '--length', 7, '--samples', 2)
    assert [row['prompt'] for row in rows] == ['cat', 'cat', 'ANT bee ', 'ANT bee ', '', '']
    for row in rows:
        gap = ' ' if row['prompt'] == 'cat' else ''
        assert row['text'] == row['prompt'] + gap + row['continuation']
        assert count(row['continuation']) == 7
        assert set(row['continuation'].split()) <= set(WORDS)
    assert rows[0] != rows[1]


def test_the_empty_prompt_is_the_default(generate):
    assert generate('--length', 5) == generate('--prompt', '', '--length', 5)


def test_seeds(generate):
    def texts(*args):
        return [row['continuation'] for row in generate('--length', 20, '--samples', 3, *args)]
    first = texts()
    assert len(set(first)) == 3
    assert texts('--seed', 0) == first and texts('--seed', 1) != first
    assert texts('--seed', 2 ** 32 - 1) != first


def test_prompts_draw_differently(generate):
    rows = generate('--prompt', 'cat', 'cat', '--length', 20)
    assert rows[0]['continuation'] != rows[1]['continuation']


@pytest.mark.parametrize('how', [('--temperature', 0), ('--top_k', 1), ('--top_p', 1e-6)], ids=str)
def test_the_most_probable_token_is_no_matter_of_seeds(generate, how):
    wanted = generate('--prompt', 'cat', '--length', 9, '--temperature', 0)
    assert generate('--prompt', 'cat', '--length', 9, '--seed', 5, *how) == wanted
    rows = generate('--prompt', 'cat', '--length', 9, '--samples', 2, *how)
    assert rows[0] == rows[1] == wanted[0]


def test_samples_that_are_all_the_same_are_named(call_launch, run):
    done = call_launch('generate', '--workdir', run, '--length', 1, '--samples', 2, '--temperature', 0)
    assert done.code == 0 and 'all 2 --samples of a --temperature of 0 are' in done.err


def test_special_tokens_are_never_written(generate):
    """The text says <unk> often: a model that may say it would, among 400 tokens at this temperature."""
    for args in (('--temperature', 3), ('--beam_size', 3, '--length', 20)):
        for row in generate('--prompt', 'cat', '--length', 400, *args):
            assert not any(token in row['continuation'] for token in SPECIAL)


# Against the model, run by hand


PROMPT = 'cat fox'


@pytest.fixture(scope='module')
def by_hand(run):
    """Returns the vocabulary, the prompt's tokens, and log_probs(texts): [texts, tokens, vocabulary], what is expected
    after each token of texts of equal length, all read in one window.
    """
    loaded = Run(run, 'last')
    task = loaded.task

    def log_probs(texts):
        logits = np.asarray(loaded.model.apply(loaded.variables, jnp.asarray(texts))['logits'], np.float64)
        return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return task.vocabulary, [2, *task.vocabulary.encode(PROMPT)], log_probs  # a line begins after the end of another


def written(row, vocabulary) -> list[int]:
    """Returns the tokens that were written."""
    ids = []
    for line in row['continuation'].split('\n'):
        ids += [*vocabulary.encode(line), 2]
    return ids[:-1]


def test_greedy_is_the_argmax_of_the_whole_text(generate, by_hand):
    vocabulary, prompt, log_probs = by_hand
    row, other, end = generate('--prompt', PROMPT, 'gnu hen fox', 'gnu\nfox', '--length', 6, '--temperature', 0)
    assert len({row['continuation'], other['continuation'], end['continuation']}) > 1  # the last word is not all
    tokens = [*prompt, *written(row, vocabulary)]
    assert len(tokens) == 3 + 6
    expected = log_probs([tokens])[0, len(prompt) - 1:-1]
    expected[:, [0, 1, 3]] = -np.inf
    assert np.argmax(expected, axis=1).tolist() == tokens[len(prompt):]


def test_beams_find_the_most_probable_text(generate, by_hand):
    """Two tokens, with as many beams as there are tokens: none is left out."""
    vocabulary, prompt, log_probs = by_hand
    row, = generate('--prompt', PROMPT, '--length', 2, '--beam_size', vocabulary.size)
    pairs = list(itertools.product([2, *range(4, vocabulary.size)], repeat=2))
    found = log_probs([[*prompt, first] for first, _ in pairs])
    scores = [rows[-2, first] + rows[-1, second] for rows, (first, second) in zip(found, pairs)]
    assert tuple(written(row, vocabulary)) == pairs[int(np.argmax(scores))]
    greedy, one = (generate('--prompt', PROMPT, '--length', 5, *how) for how in (('--temperature', 0),
                                                                                 ('--beam_size', 1)))
    assert greedy == one


# A transformer


def test_a_transformer_goes_on_beyond_its_context():
    """Token by token from what it keeps, it writes what is most probable after the whole text."""
    model = {'name': 'transformer', 'width': 8, 'layers': 2, 'heads': 2, 'context': 4}
    run = untrained(model, task={'name': 'language_model', 'carry': False}, info=of_texts())
    row, = run.generate('gnu hen fox', length=9, temperature=0)
    prompt = [2, *run.task.vocabulary.encode('gnu hen fox')]
    tokens = [*prompt, *written(row, run.task.vocabulary)]
    logits = np.array(run.model.apply(run.variables, jnp.asarray([tokens]))['logits'][0, len(prompt) - 1:-1])
    logits[:, [0, 1, 3]] = -np.inf
    assert len(tokens) == 4 + 9 and np.argmax(logits, axis=1).tolist() == tokens[len(prompt):]
    assert len(set(tokens[4:])) > 1


# Characters


def test_characters_go_on_without_a_gap_and_count_one_by_one(call_launch, generate, letters):
    row, = generate('--prompt', 'ant\nbee ca', '--length', 30, workdir=letters)
    assert row['text'] == 'ant\nbee ca' + row['continuation'] and len(row['continuation']) == 30
    assert set(row['continuation']) <= set(''.join(WORDS)) | {' ', '\n'}
    done = call_launch('generate', '--workdir', letters, '--prompt', 'ant\nbee', '--length', 3)
    assert done.err == ''  # the end of a line is known
    done = call_launch('generate', '--workdir', letters, '--prompt', 'ant?\n!ZZ', '--length', 3)
    assert done.err == "warning: the model does not know '?', '!', 'Z': read as <unk>\n"


def test_many_unknown_words_are_not_all_named(call_launch, run):
    done = call_launch('generate', '--workdir', run, '--prompt', 'p q r s t u v Cat CAT', '--length', 1)
    assert done.err == "warning: the model does not know 'p', 'q', 'r', 's', 't', ...: read as <unk>\n"


# Mistakes


@pytest.mark.parametrize('args, message', [
    (('--length', 0), '--length 0'), (('--samples', 0), '--samples 0'), (('--length', -3), '--length -3'),
    (('--temperature', -1), 'temperature = -1'), (('--temperature', 'nan'), '--temperature nan'),
    (('--temperature', 'inf'), '--temperature inf'), (('--top_p', 0), 'top_p = 0'), (('--top_p', 1.5), 'top_p = 1.5'),
    (('--top_p', 'nan'), 'top_p = nan'), (('--top_k', -1), 'top_k = -1'), (('--beam_size', -1), '--beam_size -1'),
    (('--seed', -1), '--seed -1'), (('--seed', 2 ** 32), '--seed 4294967296'), (('--length', 'x'), '--length'),
    (('--samples', 100_000_000), '--samples 100000000: it must be at most 10,000'),
    (('--beam_size', 1_000_000), '--beam_size 1000000: it must be at most 1,000'),
    (('--length', 10**9), '--length 1000000000: it must be at most 100,000'),
    (('--beam_size', 3, '--seed', 4), 'leave it out to draw with'),
    (('--step', 99), '99'), (('--step', '²'), "no step '²'"), (('--step', '9' * 5000), "no step '9999999999"),
    (('--step', 'first'), "no step 'first'")], ids=str)
def test_numbers_out_of_their_range(call_launch, run, args, message):
    done = call_launch('generate', '--workdir', run, *args)
    assert (done.code, done.out) == (2, '') and done.err.startswith('error: ') and done.err.count('\n') == 1
    assert message in done.err


def test_a_folder_that_is_no_run(call_launch, tmp_path):
    done = call_launch('generate', '--workdir', tmp_path / 'none')
    assert (done.code, done.out) == (2, '') and str(tmp_path / 'none') in done.err and done.err.count('\n') == 1


def test_a_run_that_is_no_language_model(call_launch, trained_run):
    done = call_launch('generate', '--workdir', trained_run)
    assert (done.code, done.out) == (2, '') and done.err.count('\n') == 1
    assert 'is no language model, its task is classification: use launch.py predict' in done.err
