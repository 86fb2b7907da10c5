"""What a language model carries from window to window: the same on any devices, in checkpoints, and in evaluations."""

import json
import re

import jax
import numpy as np
import pytest

from practicum import tasks
from practicum.common.errors import UserError
from practicum.training import components, evaluation, forward
from practicum.training.checkpoints import Checkpoints, flatten
from practicum.training.loop import train
from practicum.training.parallel import Parallel
from practicum.training.state import evaluated_variables
from practicum.training.transfer import init_from
from tests.tiny_text import WORDS, text_config, write_corpus

STEPS = 4
NO_DROPOUT = 'model.dropout=0.0'


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp('corpus'))


def take_steps(corpus, *overrides, steps=STEPS):
    """Returns the states before and after each step, their losses, and the `Training`."""
    training = components.build_training(text_config(corpus, *overrides))
    parallel = training.parallel
    state = training.place(training.initial_state())
    states, losses = [training.fetch(state)], []
    for step in range(steps):
        state, found = training.train_step(state, parallel.shard(training.batches(step)))
        states.append(training.fetch(state))
        losses.append(training.layout.unpack(parallel.fetch(found))['task'].compute()['loss'])
    return states, losses, training


def assert_close(found, wanted, tolerance=5e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), found, wanted)


@pytest.fixture(scope='module')
def one_device(corpus):
    return take_steps(corpus, 'parallel.devices=1')


@pytest.fixture(scope='module')
def quiet(corpus):
    """One device, without dropout."""
    return take_steps(corpus, 'parallel.devices=1', NO_DROPOUT, steps=9)


# Training


@pytest.mark.parametrize('count, mode', [pytest.param(4, 'pmap', marks=pytest.mark.thorough), (2, 'jit')])
def test_the_carry_does_not_depend_on_the_number_of_devices(corpus, one_device, count, mode):
    """With dropout: rows find what they left behind, whichever device they are on."""
    wanted, wanted_losses, _ = one_device
    states, losses, training = take_steps(corpus, f'parallel.devices={count}', f'parallel.mode={mode}')
    assert training.parallel.count == count
    assert losses == pytest.approx(wanted_losses, rel=5e-6)
    for ours, theirs in zip(states, wanted):
        assert_close(ours.carry, theirs.carry)
    assert_close(states[-1].params, wanted[-1].params)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), wanted[0].params, wanted[-1].params)
    assert max(jax.tree.leaves(moved)) > 1e-2


def test_the_carry_has_every_row_of_the_batch(one_device):
    states, _, _ = one_device
    for leaf in jax.tree.leaves(states[0].carry):
        assert leaf.shape == (8, 8) and leaf.dtype == np.float32 and not leaf.any()
    for leaf in jax.tree.leaves(states[-1].carry):
        assert len(np.unique(leaf.round(4), axis=0)) == 8  # no two rows are alike


def test_the_carry_is_that_of_the_model_run_by_hand(quiet):
    """Each step begins with what the parameters before it made of the window before; an epoch begins with zeros."""
    states, losses, training = quiet
    windows = training.batches.examples // 8
    assert windows == 7
    model = forward.build_model(training.config, training.task)
    apply = jax.jit(lambda params, tokens, carry: model.apply({'params': params}, tokens, carry))
    for step in range(9):
        batch = training.batches(step)
        begin = states[step].carry
        if step in (0, 7):
            assert batch['begin'].all()
            begin = jax.tree.map(np.zeros_like, begin)
        else:
            assert not batch['begin'].any()
        outputs = apply(states[step].params, batch['tokens'], begin)
        assert_close(states[step + 1].carry, outputs['carry'])
        log_probs = np.take_along_axis(np.asarray(jax.nn.log_softmax(outputs['logits'])), batch['targets'][..., None],
                                       axis=-1)
        assert losses[step] == pytest.approx(-log_probs.mean(), rel=1e-5)


def test_what_is_carried_matters_within_an_epoch_and_not_at_its_beginning(quiet):
    states, losses, training = quiet
    parallel = training.parallel
    for step, matters in ((3, True), (7, False)):
        forgetful = states[step].replace(carry=jax.tree.map(np.zeros_like, states[step].carry))
        _, found = training.train_step(training.place(forgetful), parallel.shard(training.batches(step)))
        loss = training.layout.unpack(parallel.fetch(found))['task'].compute()['loss']
        assert (abs(loss - losses[step]) > 1e-4) == matters


@pytest.mark.parametrize('count', [1, 4])
def test_accumulation_gives_the_same_carry_in_the_same_rows(corpus, quiet, count):
    wanted, wanted_losses, _ = quiet
    states, losses, _ = take_steps(corpus, NO_DROPOUT, 'optimizer.accumulate=2', f'parallel.devices={count}')
    assert losses == pytest.approx(wanted_losses[:STEPS], rel=5e-6)
    for ours, theirs in zip(states, wanted):
        assert_close(ours.carry, theirs.carry)
    assert_close(states[-1].params, wanted[STEPS].params)


# Checkpoints


def saved(workdir, step):
    with Checkpoints(workdir, writable=False) as checkpoints:
        return checkpoints.restore(step).arrays


@pytest.fixture(scope='module')
def run(corpus, tmp_path_factory):
    """A finished run of 12 steps."""
    workdir = tmp_path_factory.mktemp('run')
    assert train(text_config(corpus, 'parallel.devices=2'), workdir) == 0
    return workdir


def test_a_run_that_is_gone_on_with_ends_in_the_same_bits(corpus, run, tmp_path):
    """Step 6 is in the middle of an epoch of 7."""
    assert train(text_config(corpus, 'parallel.devices=2', 'total=6 steps'), tmp_path) == 0
    half = saved(tmp_path, 6)
    assert sorted(path for path in half if path.startswith('carry')) == [
        'carry/0/0', 'carry/0/1', 'carry/1/0', 'carry/1/1']
    assert all(half[path].any() for path in half if path.startswith('carry'))
    assert train(text_config(corpus, 'parallel.devices=2'), tmp_path) == 0
    found, wanted = saved(tmp_path, 12), saved(run, 12)
    assert found.keys() == wanted.keys()
    for path, value in wanted.items():
        np.testing.assert_array_equal(found[path], value, err_msg=path)


def test_a_run_does_not_go_on_with_other_texts(tmp_path):
    corpus, workdir = write_corpus(tmp_path / 'corpus'), tmp_path / 'run'
    assert train(text_config(corpus, 'parallel.devices=1', 'total=2 steps', 'evaluation.periodic=()',
                             'evaluation.final=()', "checkpoint.best_metric=''"), workdir) == 0
    with (corpus / 'train.txt').open('a') as file:
        file.write('moth lion\n')
    with pytest.raises(UserError) as caught:
        train(text_config(corpus, 'parallel.devices=1'), workdir)
    assert 'the vocabulary is not the one' in str(caught.value) and str(workdir) in str(caught.value)
    assert '\n' not in str(caught.value)


def test_a_run_does_not_go_on_with_another_number_of_rows(corpus, run):
    with pytest.raises(UserError, match='config.batch_size = 4') as caught:
        train(text_config(corpus, 'parallel.devices=2', 'batch_size=4', 'total=20 steps'), run)
    assert '\n' not in str(caught.value)


# Another run's weights


def start(corpus, *overrides):
    config = text_config(corpus, 'parallel.devices=1', *overrides)
    training = components.build_training(config)
    state = training.initial_state()
    return training, flatten(init_from(config.init_from, state.variables, training.info))


def test_weights_of_other_words_are_not_taken_over(run, tmp_path):
    others = write_corpus(tmp_path, words=tuple(word[::-1] for word in WORDS))  # as many
    with pytest.raises(UserError) as caught:
        start(others, f'init_from.workdir={run}')
    assert f'config.text.vocabulary_from={run}' in str(caught.value) and '\n' not in str(caught.value)


def test_weights_of_another_number_of_words_are_not_taken_over(run, tmp_path):
    more = write_corpus(tmp_path, words=(*WORDS, 'moth'))
    with pytest.raises(UserError, match='has shape') as caught:
        start(more, f'init_from.workdir={run}')
    assert '\n' not in str(caught.value)


def test_with_its_vocabulary_another_run_is_gone_on_from(run, tmp_path):
    more = write_corpus(tmp_path, words=(*WORDS, 'moth'))
    training, after = start(more, f'init_from.workdir={run}', f'text.vocabulary_from={run}')
    assert training.task.vocabulary.size == 4 + len(WORDS)
    with Checkpoints(run, writable=False) as checkpoints:
        best = checkpoints.best_step()
    for path, value in saved(run, best).items():
        if path.startswith('params'):
            np.testing.assert_array_equal(after[path], value)


def test_the_body_alone_can_be_taken_over(run, tmp_path):
    more = write_corpus(tmp_path, words=(*WORDS, 'moth'))
    _, after = start(more, f'init_from.workdir={run}', "init_from.include=('params/lstm.*',)")
    assert after['params/embedding/embedding'].shape == (17, 8)


# Evaluation


@pytest.fixture(scope='module')
def perplexity(quiet):
    """Returns perplexity(corpus, overrides) of the trained model on the validation text."""
    states, _, trained = quiet
    variables = evaluated_variables(states[-1].variables)

    def run(corpus, *overrides):
        config = text_config(corpus, *overrides)
        parallel = Parallel(config.parallel)
        task = tasks.build(config.task, trained.info)
        task.samples = lambda *_: []  # not what this is about, and slow to compile
        evaluations = evaluation.Evaluations(config, parallel, task, trained.info, ('validation',))
        return evaluation.evaluate(evaluations, 'validation', parallel.place(variables)).metrics['perplexity']
    return run


def by_hand(corpus, states, training, streams) -> float:
    """Perplexity of the validation text, each stream read in one go; words counted here."""
    known = training.task.vocabulary.entries
    text = [2]
    for line in (corpus / 'valid.txt').read_text().splitlines():
        text += [known.index(word) for word in line.split()] + [2]
    total = len(text) - 1
    length = -(-total // streams)
    model = forward.build_model(training.config, training.task)
    nll, scored = 0.0, 0
    for begin in range(0, total, length):
        part = np.array(text[begin:begin + length + 1])
        logits = np.asarray(model.apply({'params': states[-1].params}, part[None, :-1])['logits'][0], np.float64)
        log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        nll -= log_probs[np.arange(len(part) - 1), part[1:]].sum()
        scored += len(part) - 1
    assert scored == total == 83
    return float(np.exp(nll / total))


@pytest.mark.parametrize('streams', [1, 6])
def test_the_perplexity_is_that_of_the_whole_text(corpus, quiet, perplexity, streams):
    states, _, training = quiet
    wanted = by_hand(corpus, states, training, streams)
    assert 2 < wanted < 16
    found = perplexity(corpus, f'text.streams={streams}', 'parallel.devices=1', NO_DROPOUT)
    assert found == pytest.approx(wanted, rel=1e-5)


def test_the_perplexity_depends_neither_on_batch_size_nor_windows_nor_devices(corpus, perplexity):
    wanted = perplexity(corpus, 'parallel.devices=1')
    for overrides in (['evaluation.batch_size=1', 'text.num_steps=7'], ['parallel.devices=4'],
                      ['parallel.devices=8', 'parallel.mode=jit', 'text.num_steps=83']):
        assert perplexity(corpus, 'parallel.devices=1', *overrides) == pytest.approx(wanted, rel=1e-6)
    assert perplexity(corpus, 'parallel.devices=1', 'text.streams=2') != pytest.approx(wanted, rel=1e-4)


def test_launch_evaluate_finds_what_training_found(run, call_launch):
    done = call_launch('evaluate', '--workdir', run, '--step', 'last', '--sets', 'test')
    wanted = json.loads((run / 'result.json').read_text())['metrics']['test/perplexity']
    assert done.code == 0
    assert float(re.search(r'perplexity\W+([0-9.]+)', done.out).group(1)) == pytest.approx(wanted, rel=1e-3)


def test_a_run_does_not_go_on_in_another_text(corpus, run, tmp_path):
    """The words are the same, in another order: the state would be that of another place."""
    reversed_text = tmp_path / 'reversed'
    reversed_text.mkdir()
    for file in corpus.iterdir():
        lines = file.read_text().splitlines()
        lines = lines[::-1] if file.name.startswith('train') else lines
        (reversed_text / file.name).write_text('\n'.join(lines) + '\n')
    with pytest.raises(UserError, match='the training text is not the one') as caught:
        train(text_config(reversed_text, 'parallel.devices=1', 'total=20 steps'), run)
    assert '\n' not in str(caught.value)
