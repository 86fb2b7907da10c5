"""Translation, text by text: what was written, what is right, and which words it was made of."""

import difflib
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ..common.vocabulary import END, Vocabulary
from .task import PerExample
from .text.bleu import bleu

_MOST_DRAWN = 6  # attention maps of one figure
_END = '⏎'  # that a translation has ended


class TranslationExamples(PerExample):
    """See `PerExample`.

    Args:
      vocabulary: of translations.
      source: of the texts that are translated.

    Attributes:
      metrics: 'exact', the share of translations that are right from beginning to end; 'bleu4' of all, see
        tasks/text/bleu.py, over the tokens of the vocabulary.
    """
    metrics = ('exact', 'bleu4')

    def __init__(self, vocabulary: Vocabulary, source: Vocabulary):
        self._vocabulary, self._source = vocabulary, source

    def outputs(self, outputs: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Returns 'generated', int32 [batch, length], and 'attention' where there is one."""
        return {name: outputs[name] for name in ('generated', 'attention') if name in outputs}

    def measure(self, output: Mapping[str, np.ndarray], example: Mapping[str, np.ndarray],
                metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Returns 'text', its 'translation', the 'right' one, and whether they are the same, 'exact'.

        Args:
          output: 'generated', int32 [length].
          example: not used.
          metadata: 'text' and 'captions', the right one alone.
        """
        del example
        written, right = self._vocabulary.decode(output['generated'].tolist()), metadata['captions'][0]
        return {'text': metadata['text'], 'translation': written, 'right': right,
                'exact': self._vocabulary.split(written) == self._vocabulary.split(right)}

    def listed(self, scores: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the scores without what is there under another name."""
        return {name: value for name, value in scores.items() if name != 'captions'}

    def severity(self, row: Mapping[str, Any]) -> float:
        """Returns how much of the right translation is missing, in [0, 1]."""
        if row['exact']:
            return 0.0
        split = self._vocabulary.split
        return 1 - difflib.SequenceMatcher(None, split(row['translation']), split(row['right']), autojunk=False).ratio()

    def summarize(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Returns the metrics over all texts."""
        split = self._vocabulary.split
        scores = bleu([split(row['translation']) for row in rows], [[split(row['right'])] for row in rows])
        return {'exact': float(np.mean([row['exact'] for row in rows])), 'bleu4': scores[3]}


def attention_rows(output: Mapping[str, np.ndarray], text: str, vocabulary: Vocabulary, source: Vocabulary
                   ) -> dict[str, Any]:
    """Returns which words of a text its translation was made of.

    Args:
      output: 'generated', int32 [length], and 'attention', float [length, words].
      text: what was translated.
      vocabulary, source: of translations and of texts.

    Returns:
      'words' and 'symbols', lists of str, the last symbol '⏎' where the translation has ended; 'attention', for each
      symbol a list of a weight for each word, with three digits.
    """
    generated, attention = np.asarray(output['generated']).tolist(), np.asarray(output['attention'])
    words = source.split(text)[:attention.shape[1]]
    length = generated.index(END) + 1 if END in generated else sum(number > 0 for number in generated)
    symbols = [_END if number == END else vocabulary.entries[number] for number in generated[:length]]
    return {'words': words, 'symbols': symbols,
            'attention': np.round(attention[:length, :len(words)].astype(float), 3).tolist()}


def draw_attention(rows: Sequence[Mapping[str, Any]], title: str = 'which words a translation was made of'):
    """Draws attention maps: a row for each symbol that was written, a column for each word that was read.

    Args:
      rows: see `attention_rows`, up to 6, the rest is not drawn; with 'right' a wrong symbol is red.
      title: of the figure.

    Returns:
      A matplotlib figure.
    """
    from matplotlib.figure import Figure  # half a second that only images need
    rows = rows[:_MOST_DRAWN]
    columns = min(2 if max(len(row['words']) for row in rows) > 8 else 3, len(rows))
    lines = -(-len(rows) // columns)
    wide = max(2.4, 0.6 + 0.38 * max(len(row['words']) for row in rows))
    high = 1.2 + 0.24 * max(len(row['symbols']) for row in rows)
    figure = Figure(figsize=(wide * columns, high * lines + 0.3), layout='constrained')
    for number, row in enumerate(rows):
        axes = figure.add_subplot(lines, columns, number + 1)
        weights = np.asarray(row['attention'], float).reshape(len(row['symbols']), len(row['words']))
        axes.imshow(weights, cmap='Blues', vmin=0, vmax=1, aspect='auto', interpolation='nearest')
        axes.set_xticks(range(len(row['words'])), row['words'], rotation=90, fontsize=8, parse_math=False)
        axes.set_yticks(range(len(row['symbols'])), row['symbols'], fontsize=8, parse_math=False)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        if 'exact' in row and not row['exact']:
            axes.set_xlabel('\n'.join(textwrap.wrap(f"right: {row['right']}", 44)), fontsize=8, color='firebrick',
                            parse_math=False)
    figure.suptitle(f'{title} (white 0, dark blue 1)')
    return figure


def draw_lines(rows: Sequence[Mapping[str, Any]], letters: int = 110):
    """Draws texts with their translations, wrong ones in red with the right one below.

    Args:
      rows: see `TranslationExamples.measure`.
      letters: of a line.

    Returns:
      A matplotlib figure.
    """
    from matplotlib.figure import Figure
    lines = []
    for row in rows:
        parts = [(row['text'], '0.35'), (row['translation'] or '(nothing)', 'firebrick'), (row['right'], 'black')]
        if row['exact']:
            parts = [parts[0], (row['translation'], 'seagreen')]
        lines += [(line, colour) for text, colour in parts for line in textwrap.wrap(text, letters)] + [('', 'black')]
    figure = Figure(figsize=(9, 0.6 + 0.18 * len(lines)), layout='constrained')
    axes = figure.add_subplot()
    axes.set_axis_off()
    for number, (line, colour) in enumerate(lines):
        axes.text(0, 1 - number / len(lines), line, fontsize=9, va='top', color=colour, parse_math=False,
                  transform=axes.transAxes)
    figure.suptitle('the worst translations: text, what was written, and in black what is right')
    return figure
