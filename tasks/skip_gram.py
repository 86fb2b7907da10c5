"""Word vectors, learned from which words stand near each other."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError
from ..common.vocabulary import SPECIAL, Vocabulary
from .metrics import Mean
from .task import Task
from .text.analogies import questions
from .text.word_similarity import WordVectors

_NEIGHBOURS = 6
_QUERIES = 8  # words, if none are given, whose neighbours are told
_COMMON = 100  # the commonest words, which say little by themselves, are on no map and no query
_MAPPED = 160
_COUNTS = 'word_counts'  # in info.other


class SkipGramTask(Task):
    """Skip-gram with negative sampling (Mikolov et al. 2013): pairs of words are told from a word and random others.

    Every example has its own negatives, drawn in proportion to a power of the words' frequencies; in evaluations always
    the same ones.

    Args:
      config: 'negatives', how many a pair has. 'power' of the frequencies. 'words', whose nearest ones every evaluation
        writes down; () for some of middling frequency.
      info: 'vocabulary', and 'word_counts' of the training text.

    Raises:
      UserError: a field is out of range, a word is not known, or the data are no pairs of words.
    """
    fields = ('negatives', 'power', 'words')
    input_features = ('centre', 'context')
    needs_rng = True

    def __init__(self, config: Mapping[str, Any], info: DatasetInfo):
        super().__init__(config, info)
        if info.vocabulary is None or _COUNTS not in info.other:
            raise UserError("skip_gram needs pairs of words: config.data.source is 'text' or 'tfds_text', and "
                            'config.text.window how many words around each are near')
        self.vocabulary = Vocabulary.from_meta(info.vocabulary)
        self.negatives, power = config.get('negatives', 5), config.get('power', 0.75)
        if type(self.negatives) is not int or self.negatives < 1:
            raise UserError(f'config.task.negatives = {self.negatives!r}: it is a number of words, at least 1')
        if isinstance(power, bool) or not isinstance(power, (int, float)) or not 0 <= power <= 10:
            raise UserError(f'config.task.power = {power!r}: it is a number, 0 for all words alike, 1 for their '
                            'frequencies')
        counts = np.asarray(info.other[_COUNTS], np.float64)
        mass = np.where(counts > 0, counts ** power, 0)
        self._cumulative = np.cumsum(mass / mass.sum()).astype(np.float32)
        self._last = int(np.flatnonzero(mass)[-1])
        self.by_frequency = np.argsort(-counts, kind='stable')[:np.count_nonzero(counts)]
        self.words = self._queries(tuple(config.get('words', ())))
        self.train_metrics = self.eval_metrics = clu_metrics.Collection.create(
            loss=Mean.from_output('loss'), told_apart=Mean.from_output('told_apart'))

    def _queries(self, given: tuple[str, ...]) -> tuple[str, ...]:
        """Returns the words whose neighbours are told. Raises UserError if one is not known."""
        known = set(self.vocabulary.entries[len(SPECIAL):])
        unknown = [word for word in given if word not in known]
        if unknown:
            raise UserError(f'config.task.words: {unknown[0]!r} is not among the {len(known):,} words of the '
                            'vocabulary')
        if given:
            return given
        middling = self.by_frequency[min(_COMMON, len(self.by_frequency) // 2):][:_QUERIES]
        return tuple(self.vocabulary.entries[number] for number in middling)

    def model_fields(self) -> dict[str, Any]:
        """Returns the size of the vocabulary."""
        return {'vocabulary_size': self.vocabulary.size}

    def inputs(self, batch: Mapping[str, jax.Array]) -> tuple[Any, ...]:
        """Returns words, words near them, and negatives, int32 [batch, negatives]."""
        return *super().inputs(batch), self._negatives(batch)

    def _negatives(self, batch: Mapping[str, jax.Array]) -> jax.Array:
        drawn = jax.vmap(lambda key: jax.random.uniform(key, (self.negatives,)))(batch['rng'])
        found = jnp.searchsorted(jnp.asarray(self._cumulative), drawn, side='right')
        return jnp.minimum(found, self._last).astype(jnp.int32)

    def score(self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Scores pairs.

        Args:
          outputs: 'positive', [batch], and 'negative', [batch, negatives]: log-odds.
          batch: 'context', int32 [batch], and 'rng', [batch].

        Returns:
          Each float32 [batch]: 'loss', the sum of the cross-entropies of the pair and its negatives in nats, of which
          those that are the context itself are none; 'told_apart', the share of the negatives with lower log-odds.
        """
        others = (self._negatives(batch) != batch['context'][:, None]).astype(jnp.float32)
        positive, negative = outputs['positive'], outputs['negative']
        loss = jax.nn.softplus(-positive) + jnp.sum(others * jax.nn.softplus(negative), axis=1)
        above = jnp.sum(others * (positive[:, None] > negative), axis=1)
        return {'loss': loss, 'told_apart': above / jnp.maximum(jnp.sum(others, axis=1), 1)}

    def vectors(self, variables: Mapping[str, Any]) -> WordVectors:
        """Returns the vectors of a model's parameters."""
        return WordVectors(np.asarray(variables['params']['embedding']['embedding']), self.vocabulary)

    def samples(self, model: Any, variables: Mapping[str, Any], first: Sequence[Mapping[str, Any]]
                ) -> list[dict[str, Any]]:
        """Returns the words nearest to some, to be compared over time, and how many analogies are solved."""
        del model, first
        vectors = self.vectors(variables)
        rows = [{'text': f"{word}: {', '.join(other for other, _ in vectors.nearest(word, _NEIGHBOURS))}"}
                for word in self.words]
        scores = vectors.score(questions(vectors.numbers))
        right, asked = (sum(numbers) for numbers in zip(*scores.values())) if scores else (0, 0)
        return rows + ([{'text': f'{right:,} of {asked:,} analogies solved: {100 * right / asked:.1f} %'}]
                       if asked else [])

    def model_figures(self, model: Any, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a map of frequent words, and the share of analogies solved of each kind."""
        del model
        vectors = self.vectors(variables)
        begin = min(_COMMON, len(self.by_frequency) // 2)
        figures = {'word_map': draw_map(vectors, self.by_frequency[begin:begin + _MAPPED])}
        scores = vectors.score(questions(vectors.numbers))
        return figures | ({'analogies': draw_analogies(scores)} if scores else {})


def draw_map(vectors: WordVectors, numbers: np.ndarray):
    """Draws words where the first two principal components of their vectors lie.

    Args:
      vectors: of all words.
      numbers: which words, int [n].

    Returns:
      A matplotlib figure.
    """
    from matplotlib.figure import Figure  # half a second that only images need
    from sklearn.decomposition import PCA
    figure = Figure(figsize=(10, 8), layout='constrained')
    axes = figure.add_subplot()
    chosen = vectors.unit[numbers]
    if min(chosen.shape) >= 2:
        pca = PCA(2, svd_solver='full').fit(chosen)
        places, share = pca.transform(chosen), pca.explained_variance_ratio_.sum()
        axes.scatter(*places.T, s=3, color='tab:blue')
        for number, (x, y) in zip(numbers, places):
            axes.annotate(vectors.words[number], (x, y), (2, 2), textcoords='offset points', fontsize=7)
        axes.set_title(f'{len(numbers)} frequent words, two principal components: {100 * share:.0f} % of the variance',
                       fontsize=9)
    axes.set(xticks=[], yticks=[])
    return figure


def draw_analogies(scores: Mapping[str, tuple[int, int]]):
    """Draws the share of the analogies of each kind that is solved: kind -> (solved, asked)."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(6.4, 0.6 + 0.3 * len(scores)), layout='constrained')
    axes = figure.add_subplot()
    kinds = list(scores)[::-1]
    shares = [100 * scores[kind][0] / scores[kind][1] for kind in kinds]
    axes.barh(kinds, shares, color='tab:blue')
    for row, (kind, share) in enumerate(zip(kinds, shares)):
        axes.text(share, row, f' {scores[kind][0]:,} of {scores[kind][1]:,}', va='center', fontsize=8)
    right, asked = (sum(numbers) for numbers in zip(*scores.values()))
    axes.set(xlabel='% solved', xlim=(0, max(10.0, 1.25 * max(shares))),
             title=f'analogies: {right:,} of {asked:,}, {100 * right / asked:.1f} %')
    return figure
