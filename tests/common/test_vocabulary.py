"""What becomes of a text: which tokens are known, under which numbers, and how a text comes back from them."""

import json

import pytest

from practicum.common.errors import UserError
from practicum.common.vocabulary import END, PAD, SPECIAL, START, UNKNOWN, Vocabulary

# b 4 times, a and c 3 times, d twice, e once
TEXTS = ['b c b a', 'a b c d', 'c d e b a']


def build(texts=TEXTS, kind='whitespace', **how) -> Vocabulary:
    return Vocabulary.build(texts, kind, **how)


# Building


def test_the_most_frequent_come_first_and_equally_frequent_ones_by_spelling():
    assert build().entries == (*SPECIAL, 'b', 'a', 'c', 'd', 'e')
    assert build().size == 9
    assert build(TEXTS[::-1]).entries == build().entries  # the order of the texts does not matter


@pytest.mark.parametrize('min_count, kept', [(1, 'bacde'), (2, 'bacd'), (3, 'bac'), (4, 'b')])
def test_rare_tokens_are_left_out(min_count, kept):
    assert build(min_count=min_count).entries[4:] == tuple(kept)


@pytest.mark.parametrize('max_size, kept', [(0, 'bacde'), (5, 'b'), (7, 'bac'), (9, 'bacde'), (100, 'bacde')])
def test_max_size_counts_the_special_tokens(max_size, kept):
    found = build(max_size=max_size)
    assert found.entries[4:] == tuple(kept)
    assert not max_size or found.size <= max_size


def test_both_bounds_together():
    assert build(min_count=2, max_size=6).entries[4:] == ('b', 'a')


def test_special_tokens_in_a_text_are_not_counted_and_do_not_take_a_place():
    found = build(['<unk> <unk> <unk> a <pad> <pad> b', '<start> a <end> <end> <end>'], max_size=6)
    assert found.entries == (*SPECIAL, 'a', 'b')


def test_a_text_that_says_unk_is_read_as_unknown_and_one_that_says_end_ends():
    found = build(['a b'])
    assert found.encode('a <unk> <end>') == [4, UNKNOWN, END]


def test_no_text_can_make_padding():
    """<pad> is not scored, and <start> is never written: a text with these words does not know them."""
    found = build(['a b <pad> <start>'])
    assert found.encode('a <pad> b <start>') == [4, UNKNOWN, 5, UNKNOWN]
    assert found.unknown('a <pad> <start>') == ['<pad>', '<start>']


# Kinds


def test_words_are_lower_cased_and_without_punctuation():
    text = 'The Dog\'s ball -- a well-known, 2nd "Ball"... isn’t here! Café'
    words = ['the', "dog's", 'ball', 'a', 'well-known', '2nd', 'ball', 'isn’t', 'here', 'café']
    assert build([text], 'words').split(text) == words
    assert build([text], 'words', lowercase=True).split(text) == words


def test_whitespace_keeps_all_that_stands_between_blanks():
    assert build(kind='whitespace').split("  The dog 's\tball .\n") == ['The', 'dog', "'s", 'ball', '.']
    assert build(kind='whitespace', lowercase=True).split('The DOG') == ['the', 'dog']


def test_characters_are_all_characters():
    assert build(kind='characters').split('Ab, b') == ['A', 'b', ',', ' ', 'b']
    assert build(kind='characters', lowercase=True).split('Ab') == ['a', 'b']


def test_lowercase_merges_what_is_counted():
    assert build(['B a a b B'], lowercase=True).entries[4:] == ('b', 'a')
    assert build(['B a a b B']).entries[4:] == ('B', 'a', 'b')


# There and back


def test_encode_by_hand():
    found = build()
    assert found.encode('a x b  b') == [5, UNKNOWN, 4, 4]
    assert found.encode('') == []


def test_decode_ends_at_end_and_leaves_out_start_and_pad():
    found = build()
    assert found.decode([START, 5, 4, PAD, UNKNOWN, END, 4, 4]) == 'a b <unk>'
    assert found.decode([END, 5]) == '' == found.decode([])
    assert build(['ab c'], 'characters').decode([START, 5, 6, 4, 7, END]) == 'ab c'


@pytest.mark.parametrize('kind, text', [('whitespace', 'a c d e'), ('characters', 'a b  cd'), ('words', 'b c d')])
def test_a_known_text_comes_back(kind, text):
    found = build(kind=kind)
    assert found.decode(found.encode(text)) == text


def test_running_text_has_a_line_for_every_end():
    found = build()
    assert found.decode_lines([5, 4, END, 6, END, END, 4]) == 'a b\nc\n\nb'
    assert found.decode_lines([5, END]) == 'a\n'
    assert build(['ab'], 'characters').decode_lines([4, END, 5, 5]) == 'a\nbb'


def test_unknown_tokens_are_named_once_in_the_order_of_the_text():
    assert build().unknown('y a x y b x') == ['y', 'x']
    assert build().unknown('a b') == []
    assert build(lowercase=True).unknown('A Z') == ['z']


@pytest.mark.parametrize('how', [{'kind': 'words'}, {'kind': 'whitespace', 'lowercase': True}, {'kind': 'characters'}])
def test_it_travels_through_json(how):
    found = build([*TEXTS, 'Zürich "naïve" \U0001f600'], **how)
    again = Vocabulary.from_meta(json.loads(json.dumps(found.to_meta())))
    assert (again.kind, again.lowercase, again.entries) == (found.kind, found.lowercase, found.entries)
    assert again.to_meta() == found.to_meta() and again.difference(found) == ''
    assert again.encode('a ZÜRICH \U0001f600 q') == found.encode('a ZÜRICH \U0001f600 q')


# Differences


def test_difference_says_where():
    ours = build()
    assert ours.difference(build()) == ''
    assert ours.difference(build(['b b a'])) == '9 and 6 tokens'
    assert ours.difference(build(['b b z'])) == "token 5 is 'a' and 'z'"
    for other in (build(kind='words'), build(lowercase=True)):
        assert "'whitespace' (lowercase False)" in ours.difference(other)


def test_pieces_are_words_digits_and_marks():
    pieces = Vocabulary('pieces', SPECIAL)
    assert pieces.split("Oct 12th, '84") == ['oct', '1', '2', 'th', ',', "'", '8', '4']
    assert pieces.split("the eighty-fourth: isn't it? 3_4") == [
        'the', 'eighty', '-', 'fourth', ':', "isn't", 'it', '?', '3', '_', '4']
    assert pieces.lowercase


def test_a_translation_has_two_vocabularies_that_travel_as_one():
    source, other = build(['x y']), build(['x z'])
    both = Vocabulary('characters', (*SPECIAL, 'a'), source=source)
    again = Vocabulary.from_meta(json.loads(json.dumps(both.to_meta())))
    assert again.source.entries == source.entries and again.entries == both.entries and not both.difference(again)
    assert both.difference(Vocabulary('characters', (*SPECIAL, 'a'), source=other)) == "token 5 is 'y' and 'z'"
    assert both.difference(Vocabulary('characters', (*SPECIAL, 'a'))) == 'one of them translates'
    assert 'source' not in source.to_meta()


# Mistakes


@pytest.mark.parametrize('make, message', [
    (lambda: build(kind='word'), "config.text.tokens = 'word'; did you mean words"),
    (lambda: build(min_count=0), 'config.text.min_count = 0'),
    (lambda: build(max_size=4), 'config.text.max_size = 4'),
    (lambda: build(max_size=-1), 'config.text.max_size = -1'),
    (lambda: build(min_count=5), 'that occurs at least 5 time'),
    (lambda: build([]), 'no token'),
    (lambda: build(['... !'], 'words'), 'no token'),
    (lambda: Vocabulary('words', ('a', 'b')), 'begins with <pad>, <start>, <end>, <unk>'),
    (lambda: Vocabulary('words', (*SPECIAL, 'a', 'a')), 'no token twice')])
def test_mistakes_are_one_line(make, message):
    with pytest.raises(UserError) as caught:
        make()
    assert message in str(caught.value) and '\n' not in str(caught.value)
