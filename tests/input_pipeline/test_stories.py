"""Stories: what is drawn has the answer it says, and files in bAbI's format are read line by line."""

import re

import numpy as np
import pytest

from practicum.common.errors import UserError
from practicum.common.vocabulary import PAD, Vocabulary
from practicum.input_pipeline import sources
from practicum.input_pipeline.datasets import stories
from practicum.input_pipeline.story_source import encode, read_questions
from practicum.training.defaults import base

BABI = ('1 Mary moved to the bathroom.\n2 John went to the hallway.\n3 Where is Mary? \tbathroom\t1\n'
        '4 Daniel went back to the hallway.\n5 Where is Daniel? \thallway\t4\n'
        '1 The office is east of the hall.\n2 How do you go to the office?\te,n\t1\n')
STEPS = {'north': (0, 1), 'east': (1, 0), 'south': (0, -1), 'west': (-1, 0)}


def told(question):
    """The answer as a reader finds it, by other means than it was drawn with."""
    places, holders, lying = {}, {}, {}
    asked = question.question.split()[-1].rstrip('?')
    for sentence in question.story:
        words = sentence.rstrip('.').split()
        if 'there' not in words:
            places[words[0]] = words[-1]
        elif words[1] in ('took', 'got', 'grabbed', 'picked'):
            holders[words[-2]] = words[0]
        else:
            lying[words[-2]] = places[words[0]]
            del holders[words[-2]]
    return places.get(asked) or (places[holders[asked]] if asked in holders else lying.get(asked))


@pytest.mark.parametrize('kind', ['one_fact', 'two_facts'])
def test_who_reads_the_story_finds_the_answer(kind):
    drawn = stories.draw(kind, 'validation')
    assert len(drawn) == 1000 and [told(one) for one in drawn] == [one.answer for one in drawn]
    assert {one.answer for one in drawn} == set(stories.answers(kind))
    # The sentences it follows from are enough; those of one place after another say where a thing went.
    assert all(one.answer in ' '.join(one.story[number - 1] for number in one.supporting) for one in drawn)
    assert {len(one.supporting) for one in drawn} == {1 if kind == 'one_fact' else 2}


def test_who_walks_the_path_arrives():
    drawn = stories.draw('paths', 'validation')
    assert {one.answer for one in drawn} == set(stories.answers('paths')) and len(stories.answers('paths')) == 12
    for one in drawn[:200]:
        borders = {}
        for sentence in one.story:
            first, direction, second = re.fullmatch(r'The (\w+) is (\w+) of the (\w+)\.', sentence).groups()
            x, y = STEPS[direction]
            borders[second, (x, y)], borders[first, (-x, -y)] = first, second
        place, goal = re.search(r'from the (\w+) to the (\w+)', one.question).groups()
        for direction in one.answer.split(', '):
            place = borders[place, STEPS[direction]]
        assert place == goal


def test_splits_share_no_story_and_are_always_the_same():
    train, test = ({(one.story, one.question) for one in stories.draw('paths', split)} for split in ('train', 'test'))
    assert len(train) > 9990 and not train & test
    assert stories.draw('one_fact', 'test')[0].story[0] == 'Mary went back to the kitchen.'


def config(name, **text):
    made = base()
    made.data.source, made.data.name = 'stories', str(name)
    made.text.max_sentences, made.text.max_length = 4, 9
    made.text.update(text)
    return made


def opened(name, split='train', vocabulary=None, **text):
    made = config(name, **text)
    return sources.open_split(made.data, made.image, split, text=made.text, vocabulary=vocabulary)


def test_files_become_tokens(tmp_path):
    (tmp_path / 'qa1_train.txt').write_text(BABI)
    (tmp_path / 'qa1_test.txt').write_text('1 Sue went to the garden.\n2 Where is Sue?\tgarden\t1\n')
    source = opened(tmp_path / 'qa1')
    words = Vocabulary.from_meta(source.info.vocabulary)
    batch = source.read(np.arange(3))
    assert batch['story'].shape == (3, 4, 9) and batch['story'].dtype == np.int32
    assert [words.decode(line) for line in batch['story'][1] if line.any()] == [
        'mary moved to the bathroom', 'john went to the hallway', 'daniel went back to the hallway']
    assert words.decode(batch['question'][1]) == 'where is daniel' and (batch['story'][2, 1:] == PAD).all()
    assert source.info.class_names == ('bathroom', 'e, n', 'garden', 'hallway')  # of all splits
    assert batch['label'].tolist() == [0, 3, 1]
    assert source.describe(np.array([1]))[0]['supporting'] == [3] and source.describe(np.array([1]))[0]['line'] == 5
    test = opened(tmp_path / 'qa1', 'test', words)
    assert words.decode(test.read(np.arange(1))['story'][0, 0]) == '<unk> went to the <unk>'
    latest = opened(tmp_path / 'qa1', max_sentences=2).read(np.array([1]))['story'][0]
    assert words.decode(latest[0]) == 'john went to the hallway'


@pytest.mark.parametrize('content, parts', [
    ('Mary moved.\n', ('line 1', "'Mary moved.'", '1 Mary moved to the bathroom')),
    ('2 Mary moved.\n3 Where is Mary?\tbath\t2\n', ('line 1', 'begins with 1')),
    ('1 Mary moved.\n2 Where is Mary?\n', ('line 2', 'no answer', 'tab')),
    ('1 Mary moved.\n\n3 Where is Mary?\tbath\t1\n', ('line 3 has the number 3', '2 follows 1')),
    ('1 Mary moved.\n2 Where is Mary?\tbath\t1\n2 John moved.\n', ('line 3 has the number 2', '3 follows 2')),
    ('1 Mary moved.\n2 ...\n3 Where is Mary?\tbath\t1\n', ("line 2 has no words: '...'",)),
    ('1 Mary moved.\n2 ?\tbath\t1\n', ("line 2 has no words: '?'",)),
    ('1 Where is Mary?\tbath\t1\n', ('line 1', 'before any sentence')),
    ('1 Mary moved.\n2 Where is Mary?\tbath\t7\n', ('line 2', "'7'", 'sentences before it')),
    ('1 Mary moved.\n', ('holds no question',)),
    ('1 ' + 'very ' * 9 + 'far.\n2 Where?\tfar\t1\n', ('max_length = 9', '10 words')),
])
def test_a_line_that_is_not_understood_is_named(content, parts, tmp_path):
    (tmp_path / 'mine.txt').write_text(content)
    with pytest.raises(UserError) as caught:
        opened(tmp_path / 'mine.txt')
    assert '\n' not in str(caught.value) and all(part in str(caught.value) for part in parts)


@pytest.mark.parametrize('name, split, parts', [
    ('', 'train', ('config.data.name is empty', 'one_fact')), ('two_fact', 'train', ('did you mean two_facts?',)),
    ('paths', 'valid', ('did you mean validation?',)), ('{folder}', 'test', ('no test.txt', 'train')),
    ('{folder}/train.txt', 'test', ("all of it is 'train'",)),
    ('{folder}/tasks', 'train', ('no train.txt', 'did you mean', 'tasks/qa1_facts?'))])
def test_stories_that_are_not_there(name, split, parts, tmp_path):
    (tmp_path / 'train.txt').write_text(BABI)
    (tmp_path / 'tasks').mkdir()
    (tmp_path / 'tasks' / 'qa1_facts_train.txt').write_text(BABI)
    with pytest.raises(UserError) as caught:
        opened(name.format(folder=tmp_path), split)
    assert '\n' not in str(caught.value) and all(part in str(caught.value) for part in parts)


def test_a_sentence_without_words_is_not_taken_for_the_end_of_a_story():
    with pytest.raises(UserError, match="no words: '--'"):
        encode([(('Mary moved.', '--', 'John left.'), 'Where is Mary?')], config('').text,
               Vocabulary.build(['mary moved'], 'words'))


def test_a_question_to_be_answered_needs_no_answer(tmp_path):
    (tmp_path / 'asked.txt').write_text('1 Mary moved to the hall.\n2 Where is Mary?\n')
    assert read_questions(tmp_path / 'asked.txt', answered=False)[0].answer is None
