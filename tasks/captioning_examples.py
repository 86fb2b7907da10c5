"""Captioning, example by example: what was written of each image, and how it compares with what people wrote."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ..common.vocabulary import Vocabulary
from ..input_pipeline.datasets import shape_grammar
from .task import PerExample
from .text.bleu import bleu
from .text.cider import cider_d
from .text.rouge import rouge_l_of

_BLEU = ('bleu1', 'bleu2', 'bleu3', 'bleu4')
_POOR_ROUGE, _POOR_F1 = 0.3, 0.5  # below, a caption is drawn in red
_MOST_SHOWN = 12


class CaptioningExamples(PerExample):
    """See `rows` in tasks/__init__.py.

    Args:
      vocabulary: what captions are split by. Words of references that it does not have stay as they are, or a text
        would be the better the more of its words are unknown.
      tags: whether the order of words means nothing.
      grammar: 'shape_scenes' if metadata have 'scene', which tells whether a caption is true; None otherwise.

    Attributes:
      metrics: names of what `summarize` returns. Of captions bleu1 to bleu4, rouge_l and cider, see tasks/text;
        'exact', the share that are one of their references; 'f1', the mean over examples of the F1 of the set of words
        and that of the reference where it is best; 'true', the share that say nothing false. Of tags 'f1', and 'exact',
        the share where all tags are right and none is missing.
    """

    def __init__(self, vocabulary: Vocabulary, *, tags: bool = False, grammar: str | None = None):
        self._vocabulary, self._tags = vocabulary, tags
        self._checked = grammar == 'shape_scenes' and not tags
        texts = () if tags else (*_BLEU, 'rouge_l', 'cider')
        self.metrics = (*texts, 'exact', 'f1', *(['true'] if self._checked else []))

    def outputs(self, outputs: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Returns what `measure` needs: 'generated', int32 [batch, length]."""
        return {'generated': outputs['generated']}

    def measure(self, output: Mapping[str, np.ndarray], example: Mapping[str, np.ndarray],
                metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the caption of one example, those of the data set, and its scores.

        Args:
          output: 'generated', int32 [length].
          example: not used.
          metadata: 'captions', texts; 'scene' if captions can be checked.
        """
        del example
        caption = self._vocabulary.decode(output['generated'].tolist())
        captions = [text for text in metadata['captions'] if self._vocabulary.split(text)]
        words, references = self._split(caption, captions)
        row = {'caption': caption, 'captions': captions}
        if self._tags:
            row['exact'] = any(set(words) == set(reference) for reference in references)
        else:
            row |= {'rouge_l': rouge_l_of(words, references), 'exact': words in references}
        row['f1'] = max(f1(words, reference) for reference in references)
        if self._checked:
            row['true'] = bool(shape_grammar.is_true(caption, metadata['scene']))
        return row

    def severity(self, row: Mapping[str, Any]) -> float:
        """Returns what rows are ranked by: false captions come first, then those least like their references."""
        false = row.get('true') is False
        return 2.0 * false - row['f1' if self._tags else 'rouge_l']  # scores are at most 1

    def summarize(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Returns the metrics over all examples; BLEU and CIDEr-D are those of the corpus."""
        found = {}
        if not self._tags:
            split = [self._split(row['caption'], row['captions']) for row in rows]
            candidates, references = [words for words, _ in split], [group for _, group in split]
            found = dict(zip(_BLEU, bleu(candidates, references))) | {'cider': cider_d(candidates, references)[0]}
        return {name: found[name] if name in found else float(np.mean([row[name] for row in rows]))
                for name in self.metrics}

    def _split(self, caption: str, references: Sequence[str]) -> tuple[list[str], list[list[str]]]:
        return self._vocabulary.split(caption), [self._vocabulary.split(reference) for reference in references]


def f1(words: Sequence[str], others: Sequence[str]) -> float:
    """Returns the harmonic mean of precision and recall of one set of words in another; 1 if both are empty."""
    first, second = set(words), set(others)
    return 2 * len(first & second) / (len(first) + len(second)) if first or second else 1.0


def draw_captions(rows: Sequence[Mapping[str, Any]], title: str):
    """Draws images with the caption above, red where it is false or poor, and one of the references below.

    Args:
      rows: up to 12, the rest is not drawn; each with 'example': 'image', uint8 [height, width, channels], or [frames,
        height, width, channels], of which three frames are shown; and 'scores', see `CaptioningExamples.measure`.
      title: of the figure.

    Returns:
      A matplotlib figure.
    """
    from matplotlib.figure import Figure  # half a second that only images need
    rows = rows[:_MOST_SHOWN]
    video = rows[0]['example']['image'].ndim == 4
    columns, inches, letters = (2, 6.0, 80) if video else (4, 3.0, 38)
    columns = min(columns, len(rows))
    lines = -(-len(rows) // columns)
    height, width = _image(rows[0]['example']['image']).shape[:2]
    figure = Figure(figsize=(inches * columns, lines * (0.95 * inches * height / width + 1.0) + 0.4),
                    layout='constrained')
    for number, kept in enumerate(rows):
        axes = figure.add_subplot(lines, columns, number + 1)
        row = kept['scores']
        axes.imshow(_image(kept['example']['image']), cmap='gray', vmin=0, vmax=255)
        reference = row['captions'][0] if row['captions'] else ''
        axes.set_title(_wrapped(row['caption'] or '(no word)', letters), fontsize=9, parse_math=False,
                       color='firebrick' if _is_poor(row) else 'black')
        axes.set_xlabel(_wrapped(reference, letters), fontsize=8, color='0.45', parse_math=False)
        axes.set(xticks=[], yticks=[])
    figure.suptitle(title)
    return figure


def _is_poor(row: Mapping[str, Any]) -> bool:
    if 'true' in row:
        return not row['true']
    return row['rouge_l'] < _POOR_ROUGE if 'rouge_l' in row else row['f1'] < _POOR_F1


def _wrapped(text: str, letters: int, lines: int = 4) -> str:
    return '\n'.join(textwrap.wrap(text, letters, max_lines=lines, placeholder=' …'))


def _image(image: np.ndarray) -> np.ndarray:
    """An image for matplotlib; of a video its first, middle and last frame side by side."""
    if image.ndim == 4:
        last = len(image) - 1
        frames = [image[frame] for frame in sorted({0, last // 2, last})]
        gap = np.full_like(frames[0][:, :max(1, frames[0].shape[1] // 40)], 255)
        image = np.concatenate([part for frame in frames for part in (gap, frame)][1:], axis=1)
    return image[..., 0] if image.shape[-1] == 1 else image
