"""Language models: what comes next in a text."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from clu import metrics as clu_metrics

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError
from ..common.vocabulary import END, PAD, Vocabulary
from .metrics import Bits, Perplexity, Ratio
from .task import Task
from .text.continuation import continue_texts

_SAMPLES = 3
_SAMPLE_LENGTHS = {'words': 40, 'whitespace': 40, 'characters': 200}


class LanguageModel(Task):
    """Cross-entropy of the next token, every token of a text alike.

    Fields:
      carry: whether windows go on with what the model carried from the one before, such as the state of an LSTM, which
        is zero where a stream begins; True unless given. False: every window of config.text.num_steps tokens begins
        without a past, in training and evaluations. Models that return no 'carry' never have one.

    Args:
      config: the fields above.
      info: 'vocabulary', see common/vocabulary.py.

    Raises:
      UserError: the data have no vocabulary, or `carry` is neither True nor False.
    """
    fields = ('carry',)
    input_features = ('tokens',)

    def __init__(self, config: Mapping[str, Any], info: DatasetInfo):
        super().__init__(config, info)
        if info.vocabulary is None:
            raise UserError("language_model needs texts: config.data.source is 'text' or 'tfds_text'")
        self._carries = config.get('carry', True)
        if self._carries not in (True, False):
            raise UserError(f'config.task.carry = {self._carries!r}: it is True or False')
        self.vocabulary = Vocabulary.from_meta(info.vocabulary)
        characters = self.vocabulary.kind == 'characters'  # <end> is the end of a line, and one of them
        self._write = None
        self.primary_metric = 'bits_per_character' if characters else 'perplexity'
        per_token = Bits if characters else Perplexity

        self.train_metrics = self.eval_metrics = clu_metrics.Collection.create(
            loss=Ratio.of('nll', 'tokens'), **{self.primary_metric: per_token.of('nll', 'tokens')})

    def inputs(self, batch: Mapping[str, jax.Array]) -> tuple:
        """Returns tokens and what the window before left behind, zeroed where a stream begins."""
        if 'carry' not in batch:
            return super().inputs(batch)
        def going_on(leaf: jax.Array) -> jax.Array:
            return leaf * (1 - batch['begin']).reshape(-1, *(1,) * (leaf.ndim - 1))
        return *super().inputs(batch), jax.tree.map(going_on, batch['carry'])

    def carried(self, outputs: Mapping[str, Any]) -> Any:
        """Returns what the next window of each row begins with; {} if windows begin without a past."""
        return outputs.get('carry', {}) if self._carries else {}

    def model_fields(self) -> dict[str, Any]:
        """Returns the size of the vocabulary."""
        return {'vocabulary_size': self.vocabulary.size}

    def score(self, outputs: Mapping[str, Any], batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Scores windows.

        Args:
          outputs: 'logits', float32 [batch, steps, vocabulary].
          batch: 'targets', int32 [batch, steps]; <pad> is not scored.

        Returns:
          'loss', the mean over the window's tokens, 'nll', their sum in nats, and 'tokens', their number; each float32
          [batch].
        """
        targets = batch['targets']
        scored = (targets != PAD).astype(jnp.float32)
        nll = optax.softmax_cross_entropy_with_integer_labels(outputs['logits'], targets)
        total, tokens = jnp.sum(nll * scored, axis=1), jnp.sum(scored, axis=1)
        return {'loss': total / jnp.maximum(tokens, 1), 'nll': total, 'tokens': tokens}

    def samples(self, model, variables: Mapping[str, Any], first: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Returns texts that begin a new line, always drawn with the same random numbers."""
        del first
        if self._write is None:  # compiled once for all evaluations
            self._write = jax.jit(functools.partial(
                continue_texts, model, length=_SAMPLE_LENGTHS[self.vocabulary.kind], top_p=0.9))
        prompts = jnp.full((_SAMPLES, 1), END, jnp.int32)
        written = np.asarray(self._write(variables, prompts, jax.random.key(0))).tolist()
        return [{'text': self.vocabulary.decode_lines(tokens)} for tokens in written]
