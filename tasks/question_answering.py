"""Questions about stories: the answer is a class, and where the network looked is shown."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError
from ..common.vocabulary import Vocabulary
from .classification import Classification, draw_confusion_matrix
from .classification_examples import ClassificationExamples

_DRAWN = 4  # stories of a figure
_ROW_INCHES, _HEAD_INCHES = 0.21, 0.62


class QuestionAnswering(Classification):
    """Classification of questions by their answers, of which one may be of several words.

    Args:
      config: see `Classification`; 'per_example' is True if left out.
      info: 'class_names', the answers; 'vocabulary' of the stories.

    Raises:
      UserError: see `Classification`; the data are no stories.
    """

    def __init__(self, config: Mapping[str, Any], info: DatasetInfo):
        super().__init__(config, info)
        if not config.get('inputs'):
            self.input_features = ('story', 'question')
        if info.vocabulary is None:
            raise UserError("question_answering needs stories: config.data.source is 'stories'")
        self.vocabulary = Vocabulary.from_meta(info.vocabulary)
        self.per_example = AnsweredQuestions(self.class_names) if config.get('per_example', True) else None

    def model_fields(self) -> dict[str, Any]:
        """Returns the number of answers, and the size of the vocabulary."""
        return {**super().model_fields(), 'vocabulary_size': self.vocabulary.size}

    def figures(self, metrics: Mapping[str, Any], worst: Sequence[Mapping[str, Any]] = (),
                first: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        """Returns the confusion matrix, and where the network looks in the first stories and in the worst."""
        figures = {}
        if 'confusion' in metrics:
            figures['confusion_matrix'] = draw_confusion_matrix(metrics['confusion'], self.class_names)
        for name, shown in (('attention', first), ('worst_examples', worst)):
            if shown and 'attention' in shown[0]['outputs']:
                figures[name] = draw_attention(shown[:_DRAWN])
        return figures


class AnsweredQuestions(ClassificationExamples):
    """What was answered to every question; the story is in the metadata.

    Args:
      class_names: the answers.
    """

    def outputs(self, outputs: Any) -> dict[str, jax.Array]:
        """Returns 'probabilities', float32 [batch, answers], and 'attention', [batch, hops, sentences], if any."""
        if not isinstance(outputs, Mapping):
            return super().outputs(outputs)
        return super().outputs(outputs['logits']) | {'attention': outputs['attention']}

    def listed(self, scores: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the scores and the question, the story as one text."""
        story = scores.get('story')
        return dict(scores) | ({} if story is None else {'story': ' '.join(story)})


def draw_attention(shown: Sequence[Mapping[str, Any]]):
    """Draws stories sentence by sentence, with the attention that each hop gives to it.

    Args:
      shown: 'outputs' of `AnsweredQuestions` and 'scores' with 'story', 'question' and 'supporting'. Sentences that
        the answer follows from are set in bold.

    Returns:
      A matplotlib figure.
    """
    from matplotlib.figure import Figure  # half a second that only images need
    stories = [_latest(kept) for kept in shown]
    heights = [_HEAD_INCHES + _ROW_INCHES * len(sentences) for sentences, _, _ in stories]
    hops = shown[0]['outputs']['attention'].shape[0]
    words = max(len(sentence) for sentences, _, _ in stories for sentence in sentences)
    left, width = 0.085 * words + 0.2, 0.55 * hops
    figure = Figure(figsize=(max(left + width + 0.2, 5.4), sum(heights) + 0.1))
    (total_width, total), top = figure.get_size_inches(), 0.0
    for kept, (sentences, attention, supporting), height in zip(shown, stories, heights):
        scores = kept['scores']
        rows = max(1, len(sentences))
        bottom = total - top - height
        axes = figure.add_axes((left / total_width, (bottom + 0.08) / total, width / total_width,
                                _ROW_INCHES * rows / total))
        axes.imshow(attention, cmap='Blues', vmin=0, vmax=1, aspect='auto')
        for (row, hop), value in np.ndenumerate(attention):
            if abs(value) >= 0.005:
                axes.text(hop, row, f'{value:.2f}', ha='center', va='center', fontsize=7,
                          color='white' if value > 0.6 else 'black')
        for row, sentence in enumerate(sentences):
            axes.text(-0.65, row, sentence, ha='right', va='center', fontsize=8,
                      weight='bold' if row in supporting else 'normal')
        axes.set(xticks=range(hops), yticks=[])
        axes.set_xticklabels([f'hop {hop + 1}' for hop in range(hops)], fontsize=7)
        axes.tick_params(axis='x', top=True, labeltop=True, bottom=False, labelbottom=False, length=0, pad=1)
        right = scores['class'] == scores['predicted']
        said = f"{scores['question']}  {scores['predicted']}: {100 * scores['predicted_probability']:.1f} %"
        if not right:
            said += f"   true: {scores['class']}, {100 * scores['class_probability']:.1f} %"
        figure.text(0.08 / total_width, (bottom + height - 0.2) / total, said, fontsize=9, va='center',
                    color='black' if right else 'firebrick')
        top += height
    return figure


def _latest(kept: Mapping[str, Any]) -> tuple[list[str], np.ndarray, set[int]]:
    """Returns the sentences that were read, the attention [sentences, hops] to each, and which of them support."""
    scores, attention = kept['scores'], kept['outputs']['attention'].T
    sentences = list(scores['story'])[-len(attention):]
    left_out = len(scores['story']) - len(sentences)
    return sentences, attention[:len(sentences)], {number - 1 - left_out for number in scores['supporting']}
