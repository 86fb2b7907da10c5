"""Translation: what was written compared with what is right, and which words it was made of."""

import numpy as np
import pytest

from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.common.vocabulary import END, Vocabulary
from practicum.tasks import build
from practicum.tasks.translation_examples import TranslationExamples, attention_rows, draw_attention, draw_lines

SOURCE = Vocabulary.build(['the first of may'], 'pieces')
WORDS = Vocabulary.build(['ABCD'], 'characters')


@pytest.fixture
def scorer():
    return TranslationExamples(WORDS, SOURCE)


def ids(text: str) -> np.ndarray:
    return np.asarray([*WORDS.encode(text), END, 0, 0])


def test_a_translation_is_right_or_it_is_not(scorer):
    facts = {'text': 'the first', 'captions': ['ABC']}
    right = scorer.measure({'generated': ids('ABC')}, {}, facts)
    near, far = (scorer.measure({'generated': ids(text)}, {}, facts) for text in ('ABD', 'DD'))
    assert right['exact'] and not near['exact'] and right['right'] == right['translation'] == 'ABC'
    assert scorer.severity(right) == 0 < scorer.severity(near) < scorer.severity(far) == 1
    assert scorer.summarize([right, near, far])['exact'] == pytest.approx(1 / 3)
    assert 'captions' not in scorer.listed(right | facts)


def test_attention_names_words_and_symbols():
    weights = np.zeros((4, 6))
    weights[0, 1] = weights[1, 0] = weights[2, 1] = 1
    row = attention_rows({'generated': ids('AB')[:4], 'attention': weights}, 'The first', WORDS, SOURCE)
    assert row == {'words': ['the', 'first'], 'symbols': ['A', 'B', '⏎'],
                   'attention': [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]}
    unfinished = attention_rows({'generated': ids('AB')[:2], 'attention': weights[:2]}, 'The first', WORDS, SOURCE)
    assert unfinished['symbols'] == ['A', 'B']


def test_figures_show_texts_that_matplotlib_would_take_for_formulas():
    row = {'text': 'a $5 b$', 'translation': '$', 'right': '$_', 'exact': False, 'words': ['$5', '$'], 'symbols': ['$'],
           'attention': [[0.2, 0.8]]}
    for figure in (draw_attention([row]), draw_lines([row, row | {'exact': True}])):
        figure.canvas.draw()


def test_data_without_translations_are_refused():
    with pytest.raises(UserError, match='translations'):
        build({'name': 'translation'}, DatasetInfo(vocabulary=WORDS.to_meta(), caption_length=3))
