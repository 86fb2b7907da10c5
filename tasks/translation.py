"""Translation: a text for a text, such as another language or another way to write a date."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError
from ..common.vocabulary import START, Vocabulary
from .captioning import Captioning
from .prediction import Prediction
from .translation_examples import TranslationExamples, attention_rows, draw_attention, draw_lines


class Translation(Captioning):
    """Cross-entropy of every token of a translation given the text and the tokens before it, as captioning has it.

    Evaluations write a translation for every text, by beam search, and compare it with the one that is right.

    Args:
      config: 'beam_size', 'length_penalty' and 'max_length' as for captioning; beam_size is 1 by default, greedy.
      info: 'vocabulary', with that of the texts as its source, see common/vocabulary.py; 'caption_length', tokens of
        the longest translation; 'tokens_per_example'.

    Raises:
      UserError: the data have no translations, or a field is out of range.
    """
    fields = ('beam_size', 'length_penalty', 'max_length')
    input_features = ('tokens', 'captions')

    def __init__(self, config: Mapping[str, Any], info: DatasetInfo):
        if 'source' not in (info.vocabulary or {}) or info.caption_length is None:
            raise UserError('translation needs texts with translations, the data set has none: another config.data or '
                            'config.task.name')
        super().__init__({'beam_size': 1, **config}, info)
        self.input_vocabulary = Vocabulary.from_meta(info.vocabulary['source'])
        self.per_example = TranslationExamples(self.vocabulary, self.input_vocabulary)
        self.primary_metric = 'exact'
        self.max_length += 1  # the end is written, too: what goes on behind the right words is not right

    def model_fields(self) -> dict[str, Any]:
        """Returns the numbers of tokens of both vocabularies."""
        return super().model_fields() | {'input_vocabulary_size': self.input_vocabulary.size}

    def generate(self, model, variables: Mapping[str, Any], batch: Mapping[str, jax.Array], *, begin: str | None = None
                 ) -> dict[str, jax.Array]:
        """Writes a translation for each text.

        Args:
          model, variables: see `Captioning.generate`.
          batch: 'tokens', int32 [batch, words].
          begin: not for texts.

        Returns:
          'generated', int32 [batch, max_length + 1], tokens and <end>, then <pad>; and if the model has it 'attention',
          float32 [batch, max_length + 1, words]: how much of each word went into each token.
        """
        found = super().generate(model, variables, batch, begin=begin)
        if not getattr(model, 'attention', False):
            return found
        tokens = found['generated']
        start = jnp.full((tokens.shape[0], 1), START, tokens.dtype)
        written = jnp.concatenate([start, tokens], axis=1)[:, None]
        weights = model.apply(variables, batch['tokens'], written, method='attention_weights')
        return found | {'attention': weights[:, 0]}

    def predict(self, outputs: Mapping[str, np.ndarray], image: np.ndarray, metadata: Mapping[str, Any], top_k: int
                ) -> Prediction:
        """Returns the translation of one text.

        Args:
          outputs: of `generate`, for this text.
          image: int32 [words], its tokens.
          metadata: 'text'.
          top_k: not used.

        Returns:
          'translation'; and with attention 'words' of the text, 'symbols' of the translation and 'attention', a row for
          each symbol with a weight for each word.
        """
        del image, top_k
        row = {'translation': self.vocabulary.decode(outputs['generated'].tolist())}
        if 'attention' in outputs:
            row |= attention_rows(outputs, metadata['text'], self.vocabulary, self.input_vocabulary)
        return Prediction(row)

    def flatten(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a prediction as columns of a table."""
        return {'translation': row['translation']}

    def describe(self, row: Mapping[str, Any]) -> str:
        """Returns a prediction as one line, the translation."""
        return row['translation']

    def samples(self, model, variables: Mapping[str, Any], first: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Returns the translations of the first examples of an evaluation."""
        del model, variables
        return [{'prompt': kept['scores']['text'], 'text': kept['scores']['translation'],
                 'references': [kept['scores']['right']]} for kept in first]

    def figures(self, metrics: Mapping[str, Any], worst: Sequence[Mapping[str, Any]] = (),
                first: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        """Returns figures: the worst translations, and which words the first of the set were made of.

        Args:
          metrics: not used.
          worst, first: see training/per_example.py.
        """
        del metrics
        figures = {'worst_translations': draw_lines([kept['scores'] for kept in worst])} if worst else {}
        drawn = [{**kept['scores'], **attention_rows(kept['outputs'], kept['scores']['text'], self.vocabulary,
                                                     self.input_vocabulary)}
                 for kept in first if 'attention' in kept['outputs']]
        return figures | ({'attention': draw_attention(drawn)} if drawn else {})
