"""PyTorch's networks in benchmarks/baselines are ours, and learn and write as ours do. Skipped without PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum import models, tasks
from practicum.common.dataset_info import DatasetInfo
from practicum.common.vocabulary import END, PAD, SPECIAL, START, Vocabulary
from practicum.models import decoding
from practicum.training import forward
from practicum.training.defaults import base
from practicum.training.optimizer import Optimizer
from practicum.training.parallel import Parallel
from practicum.training.state import initial_carry
from practicum.training.step import TRAIN, TrainState, apply_model, make_train_step

torch = pytest.importorskip('torch')

from benchmarks.baselines import caption_torch, lstm_torch  # noqa: E402

VOCABULARY, HIDDEN, EMBEDDING, FEATURES, ROWS, STEPS = 13, 6, 5, 7, 4, 3
# PyTorch divides by the gradient's norm + 1e-6, optax by the norm: with larger steps that would be visible.
LEARNING_RATE, CLIP_NORM = 5.0, 0.1


def dense(linear):
    """Ours from torch's linear layer."""
    return {'kernel': linear.weight.detach().numpy().T.copy(), 'bias': linear.bias.detach().numpy().copy()}


def cell(lstm, layer):
    """The parameters of flax's OptimizedLSTMCell from a layer of nn.LSTM, whose gates come in the order i, f, g, o."""
    kernels, recurrent, bias, zero = (
        np.split(getattr(lstm, f'{name}_l{layer}').detach().numpy().copy(), 4)
        for name in ('weight_ih', 'weight_hh', 'bias_ih', 'bias_hh'))
    assert not np.any(zero)
    params = {f'i{gate}': {'kernel': kernel.T} for gate, kernel in zip('ifgo', kernels)}
    return params | {f'h{gate}': {'kernel': kernel.T, 'bias': bias}
                     for gate, kernel, bias in zip('ifgo', recurrent, bias)}


def convert(network, template):
    """Our parameters from a network of lstm_torch, in a tree like `template`."""
    found = {'embedding': {'embedding': network.embedding.weight.detach().numpy().copy()}}
    if 'logits' in template:
        found['logits'] = dense(network.logits)
    else:
        found['logits_bias'] = network.logits.bias.detach().numpy().copy()
    if 'image' in template:
        found['image'] = dense(network.image)
    cells = sorted(name for name in template if name not in found)
    found |= {name: cell(network.lstm, layer) for layer, name in enumerate(cells)}
    assert jax.tree.map(np.shape, found) == jax.tree.map(np.shape, dict(template))
    return found


def randomise_biases(network):
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and 'bias' in name:
            torch.nn.init.uniform_(parameter, -0.5, 0.5)


def make_language_model(**fields):
    """A language model of ours and of PyTorch's with the same weights."""
    torch.manual_seed(0)
    network = lstm_torch.LanguageModel(VOCABULARY, HIDDEN, 2, **fields)
    randomise_biases(network)
    model = models.build({'name': 'lstm', 'hidden': HIDDEN, 'layers': 2, **fields}, vocabulary_size=VOCABULARY,)
    template = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32)))['params']
    return network, model, convert(network, template)


def make_captioner(layers, seed=0):
    """As make_language_model; no dropout."""
    torch.manual_seed(seed)
    network = lstm_torch.Captioner(VOCABULARY, HIDDEN, layers, FEATURES, embedding=EMBEDDING)
    randomise_biases(network)
    model = models.build({'name': 'captioner', 'body': {'name': 'vgg'}, 'endpoint': 'pool5', 'inject': 'first',
                          'hidden': HIDDEN, 'embedding': EMBEDDING, 'layers': layers, 'dropout': 0.0},
                         vocabulary_size=VOCABULARY)
    template = jax.eval_shape(lambda: model.init(
        jax.random.key(0), jnp.zeros((1, FEATURES)), jnp.zeros((1, 1, 2), jnp.int32), begin='features'))['params']
    return network, model, convert(network, template)


def make_task(name, **facts):
    vocabulary = Vocabulary('whitespace', (*SPECIAL, *map(str, range(VOCABULARY - len(SPECIAL)))))
    return tasks.build({'name': name}, DatasetInfo.from_json({'vocabulary': vocabulary.to_meta(), **facts}))


class Pair:
    """Takes steps of ours, as the engine does on two devices, and of PyTorch's, and compares them.

    Args:
      network: PyTorch's.
      task, apply: ours, see training/forward.py.
      params: ours, with the weights of the network.
      example: a batch.
    """

    def __init__(self, network, task, apply, params, example):
        config = base()
        config.parallel.devices = 2
        config.optimizer.update({'name': 'sgd', 'momentum': 0.0, 'learning_rate': LEARNING_RATE,
                                 'clip_norm': CLIP_NORM})
        optimizer = Optimizer(config.optimizer)
        self.parallel = Parallel(config.parallel)
        train_step = make_train_step(apply, task, optimizer, lambda step: 1.0, lambda batch, keys: batch)
        self.step = self.parallel.compile(train_step, **TRAIN | {'donate': ()})
        carry = initial_carry(apply, task, {'params': params}, example, len(next(iter(example.values()))))
        hyperparameters = {'seed': np.uint32(0), 'learning_rate': np.float32(LEARNING_RATE),
                           'weight_decay': np.float32(0)}
        self.state = self.parallel.place(
            TrainState(jnp.zeros((), jnp.int32), params, {}, optimizer.init(params), {}, carry, hyperparameters),
            TrainState.places())
        self.initial, self.network, self.task, self.apply = params, network, task, apply
        self.learner = torch.optim.SGD(lstm_torch.learning(network), lr=LEARNING_RATE, fused=True)

    def compare(self, batch, loss):
        """Takes a step on a batch, ours, and down PyTorch's loss of the same: losses and parameters are equal."""
        carried = {'carry': self.parallel.fetch_rows(self.state.carry)} if self.state.carry else {}
        scores = self.task.score(self.apply({'params': self.state.params}, batch | carried, train=False), batch)
        np.testing.assert_allclose(scores['loss'].mean(), loss.detach(), rtol=1e-5)
        self.state, _ = self.step(self.state, self.parallel.shard(batch))
        lstm_torch.descend(loss, self.learner, CLIP_NORM)
        norm = torch.stack([parameter.grad.norm() for parameter in lstm_torch.learning(self.network)]).norm()
        assert np.isclose(norm, CLIP_NORM, rtol=1e-4), 'the gradient was not clipped: nothing is shown about clipping'
        jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5),
                     self.state.params, convert(self.network, self.initial))

    def check_all_moved(self):
        """Every array has learned something, so that equality says something."""
        moved = jax.tree.map(lambda before, after: np.abs(before - after).max(), self.initial, self.state.params)
        assert min(jax.tree.leaves(moved)) > 1e-4


def windows(count):
    """Batches of one text in ROWS streams; in the last, two of them begin anew."""
    text = np.random.default_rng(0).integers(2, VOCABULARY, (ROWS, count * STEPS + 1)).astype(np.int32)
    for number in range(count):
        here = slice(number * STEPS, (number + 1) * STEPS)
        begin = np.full(ROWS, number == 0, np.float32)
        if number == count - 1:
            begin[1:3] = 1
        yield {'tokens': text[:, :-1][:, here], 'targets': text[:, 1:][:, here], 'begin': begin}


@pytest.mark.parametrize('fields', [{'embedding': EMBEDDING}, {'embedding': HIDDEN, 'tied': True}])
def test_same_training_of_a_language_model(fields):
    """Loss, clipped gradient and SGD, with the state carried on and zeroed."""
    network, model, params = make_language_model(**fields)
    task = make_task('language_model')
    pair = Pair(network, task, apply_model(model, task), params, next(windows(3)))
    carry = None
    for batch in windows(3):
        tokens, targets, begin = (torch.from_numpy(batch[name].copy()) for name in ('tokens', 'targets', 'begin'))
        loss, carry = network.loss(tokens.long(), targets.long(), begin, carry)
        pair.compare(batch, loss)
    pair.check_all_moved()


def test_same_training_of_a_captioner():
    """Captions of different length, and images with different numbers of captions."""
    network, model, params = make_captioner(layers=2)
    tokens = 4.5
    task = make_task('captioning', caption_length=4, tokens_per_example=tokens)
    captions = np.asarray([[[START, 4, 5, 6, END], [START, 7, END, PAD, PAD]],
                           [[START, 8, 9, END, PAD], [PAD] * 5]], np.int32)
    batch = {'features': np.random.default_rng(0).random((2, FEATURES), np.float32), 'captions': captions}

    pair = Pair(network, task, forward.head(model, task, 'features'), params, batch)
    for _ in range(2):
        features = torch.from_numpy(batch['features'])
        pair.compare(batch, network.loss(features, torch.from_numpy(captions).long(), tokens))
    pair.check_all_moved()


def test_same_decoding():
    """Greedy and beam search find the same captions, of which some end before the others."""
    network, model, template = make_captioner(layers=1, seed=1)
    with torch.no_grad():
        for parameter in lstm_torch.learning(network):
            parameter.mul_(4)  # or all captions would be alike
    params = convert(network, template)
    features = np.random.default_rng(0).normal(size=(6, FEATURES)).astype(np.float32)
    state = model.apply({'params': params}, features, begin='features', method='start')

    def step(state, tokens):
        return model.apply({'params': params}, state, tokens, method='step')
    first = jnp.full(len(features), START)
    greedy = decoding.greedy(step, state, first, length=7, end=END)
    beams, scores = decoding.beam_search(step, state, first, beam_size=3, length=7, end=END)
    for recur in caption_torch.recurrences(network).values():
        with torch.inference_mode():
            np.testing.assert_array_equal(greedy, caption_torch.greedy(network, recur, torch.from_numpy(features), 7))
            theirs, their_scores = caption_torch.beam_search(network, recur, torch.from_numpy(features), 7, 3)
        np.testing.assert_array_equal(beams, theirs)
        np.testing.assert_allclose(scores, their_scores, rtol=1e-4)
    assert len(set(np.count_nonzero(beams[:, 0], axis=1))) > 1 and not np.array_equal(greedy, beams[:, 0])
