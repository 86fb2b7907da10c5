"""Dates, sentences of a made language and reviews: each text has the truth that its words say."""

import datetime
import random
import re

import numpy as np
import pytest

from practicum.common.errors import UserError
from practicum.common.vocabulary import END, PAD, START, Vocabulary
from practicum.input_pipeline import sources
from practicum.input_pipeline.datasets import dates, made_language, reviews
from practicum.training.defaults import base


def opened(name: str, split: str = 'validation', vocabulary=None, **text):
    config = base()
    config.data.source, config.data.name = 'made_texts', name
    config.text.update({'tokens': 'whitespace', 'max_length': 40, **text})
    config.text.source.tokens = 'pieces'
    return sources.open_split(config.data, config.image, split, text=config.text, vocabulary=vocabulary)


def test_a_day_is_written_in_every_form():
    day, generator = datetime.date(1984, 3, 3), random.Random(0)
    written = {form: dates.write(day, generator, form).lower() for form in dates.FORMS}
    assert written['the {third} of {March} {nineteen}'] == 'the third of march nineteen eighty-four'
    assert written['{March} {d}, {y}'] == 'march 3, 1984' and written['{m}/{d}/{yy}'] == '3/3/84'
    assert written['{Sat}, {d} {Mar} {y}'] == 'sat, 3 mar 1984' and written['{3rd} {Mar} {yy}'] == '3rd mar 84'
    assert len(set(written.values())) == len(dates.FORMS)


@pytest.mark.parametrize('form, fields', [('{m}/{d}/{yy}', '%m/%d/%y'), ('{dd}.{mm}.{y}', '%d.%m.%Y'),
                                          ('{d}-{Mar}-{yy}', '%d-%b-%y'), ('{y}{mm}{dd}', '%Y%m%d'),
                                          ('{Saturday}, {March} {d}, {y}', '%A, %B %d, %Y')])
def test_python_reads_the_same_day(form, fields):
    generator = random.Random(1)
    for number in range(0, 36_524, 487):
        day = dates.FIRST + datetime.timedelta(days=number)
        assert datetime.datetime.strptime(dates.write(day, generator, form), fields).date() == day


def test_numbers_in_words():
    assert [dates.ordinal(day) for day in (1, 2, 3, 8, 12, 20, 21, 30)] == [
        'first', 'second', 'third', 'eighth', 'twelfth', 'twentieth', 'twenty-first', 'thirtieth']
    assert dates.years(1970) == ('nineteen seventy',) and dates.years(2000) == ('two thousand', 'two thousand')
    assert dates.years(2007) == ('twenty oh seven', 'two thousand and seven', 'two thousand seven')
    assert dates.years(2068) == ('twenty sixty-eight',)


def test_no_day_is_in_two_splits():
    days = {split: {day for _, day in dates.pairs(split)} for split in dates.TEXTS}
    assert not days['train'] & days['test'] and not days['validation'] & (days['train'] | days['test'])
    assert len(days['train']) > 20_000 and len(dates.pairs('test')) == 2000


def test_a_sentence_in_both_languages():
    cat = made_language.Phrase('one', 'a', 'cat', ('old',))
    dog = made_language.Phrase('many', 'the', 'dog', ('red',), clause=made_language.Predicate('see sees saw', cat))
    near = made_language.Phrase('one', 'this', 'child', near=('near', dog))
    said = made_language.Sentence('past', 'yesterday', near, made_language.Predicate('happy'))
    assert made_language.english(said) == 'yesterday this child near the red dogs that saw an old cat was happy'
    assert made_language.vel(said) == 'heri mirna ved un vidtache kanori rukri se prok nib tik lelost'


def test_every_sentence_has_one_translation_either_way_and_one_split():
    pairs = {split: made_language.pairs(split) for split in made_language.SENTENCES}
    english, vel = zip(*(pair for split in pairs.values() for pair in split))
    assert len(set(english)) == len(set(vel)) == len(english) == sum(made_language.SENTENCES.values())
    words = [len(text.split()) for text, _ in pairs['longer']]
    assert min(words) > made_language.LONGEST >= max(len(text.split()) for text, _ in pairs['train'])
    words = [*made_language.NOUNS.values(), *made_language.ADJECTIVES.values(), *made_language.TRANSITIVE.values(),
             *made_language.INTRANSITIVE.values()]
    assert len(set(words)) == len(words)


def verdict(text: str) -> str:
    """The class of a review, found from its words alone."""
    goods = '|'.join(reviews._GOOD)

    def good(clause: str) -> bool:
        return bool(re.search(rf'\b({goods})$', clause)) != bool(re.search(r'\b(not|never|hardly)\b', clause))
    clauses = re.split(r', | and ', text.removesuffix('.'))
    if len(clauses) == 1 or ', ' not in text:
        values = {good(clause) for clause in clauses}
        return 'mixed' if len(values) > 1 else 'positive' if values.pop() else 'negative'
    first_counts = re.match('although|even if|while', clauses[1])
    return 'positive' if good(clauses[0 if first_counts else 1]) else 'negative'


def test_reviews_have_the_class_that_their_words_say():
    for split in ('validation', 'test'):
        texts = reviews.texts(split)
        assert [truth for _, truth in texts] == [verdict(text) for text, _ in texts]
        assert {text for text, _ in texts}.isdisjoint(text for text, _ in reviews.texts('train'))
    counts = [sum(truth == name for _, truth in reviews.texts('test')) for name in reviews.CLASSES]
    assert max(counts) - min(counts) <= 2


def test_translations_become_tokens_of_two_vocabularies():
    source = opened('dates', tokens='characters')
    info = source.info
    words, letters = Vocabulary.from_meta(info.vocabulary).source, Vocabulary.from_meta(info.vocabulary)
    example, facts = source.read(np.arange(3)), source.describe(np.arange(3))
    assert set(example) == {'tokens', 'captions'} and info.caption_length == 10
    for row in range(3):
        ids = [number for number in example['tokens'][row].tolist() if number != PAD]
        assert [words.entries[number] for number in ids] == words.split(facts[row]['text'])
        written = example['captions'][row, 0].tolist()
        assert written[0] == START and written[-1] == END
        assert letters.decode(written) == facts[row]['captions'][0]


def test_words_of_other_data_are_unknown_in_a_given_vocabulary():
    source = opened('reviews', vocabulary=Vocabulary.from_meta(opened('reviews').info.vocabulary))
    assert set(source.read(np.arange(2))) == {'label', 'tokens'} and source.info.class_names == reviews.CLASSES
    with pytest.raises(UserError, match='translates nothing'):
        opened('dates', vocabulary=Vocabulary('whitespace', ('<pad>', '<start>', '<end>', '<unk>', 'a')))
    with pytest.raises(UserError, match='translates'):
        opened('reviews', vocabulary=Vocabulary.from_meta(opened('dates').info.vocabulary))


@pytest.mark.parametrize('name, split, words', [('date', 'train', 'dates'), ('dates', 'tset', 'test')])
def test_mistakes_are_named(name, split, words):
    with pytest.raises(UserError, match=words):
        opened(name, split)
