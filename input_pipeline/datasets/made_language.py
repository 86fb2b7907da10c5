"""English sentences of a small grammar, and what they are in Vel, a language made for them.

One tree of what is said becomes both texts, so that every sentence has one right translation, either way. In Vel

- a clause begins with its time, today or yesterday, and its verb comes last: 'the dog sees a cat' is said as 'dog the
  cat a sees', each word in Vel;
- a noun comes before its adjectives, and those before the determiner; it has endings for many ('ri') and for the object
  ('na'), and adjectives take the same ending for many;
- a preposition stands behind its phrase, and all of it before the noun; so does a relative clause, whose verb ends in
  'che' in place of 'that';
- verbs do not agree with anything, but end in 'ta' in the past; 'to be' is the ending 'os' of an adjective, 'ost' in
  the past.

So words move far, and some of one language are endings in the other.
"""

import dataclasses
import functools
import hashlib
import random

SENTENCES = {'train': 20_000, 'validation': 1000, 'test': 1000, 'longer': 1000}
LONGEST = 12  # English words of a sentence, but for those of 'longer', which have at least one more, up to:
MOST = 20
_SHARES = ('validation', 'test', *['train'] * 8)  # of all sentences
_SEED = 1887

# English -> Vel.
NOUNS = {'dog': 'kano', 'cat': 'mir', 'boy': 'pelu', 'girl': 'vasi', 'bird': 'tirel', 'teacher': 'domar',
         'child': 'nib', 'farmer': 'gadul', 'horse': 'evok', 'wolf': 'lurgo', 'doctor': 'sanet', 'king': 'regol',
         'sailor': 'navir', 'mouse': 'piku', 'queen': 'regia', 'poet': 'verun'}
ADJECTIVES = {'old': 'ved', 'small': 'min', 'young': 'jun', 'happy': 'lel', 'red': 'ruk', 'tired': 'zom',
              'brave': 'kur', 'quiet': 'shul', 'tall': 'alt', 'clever': 'savi'}
DETERMINERS = {'one': {'the': 'se', 'a': 'un', 'every': 'omni', 'this': 'tik'},
               'many': {'the': 'se', 'some': 'alko', 'two': 'bi', 'many': 'mul', 'these': 'tik'}}
PREPOSITIONS = {'near': 'prok', 'behind': 'retro', 'with': 'kum'}
ADVERBS = {'past': {'yesterday': 'heri', 'once': 'olim', 'recently': 'nup'}, 'present': {'today': 'hodi', 'now': 'nun'}}
INTRANSITIVE = {'sleep sleeps slept': 'dorm', 'run runs ran': 'galop', 'sing sings sang': 'kant',
                'laugh laughs laughed': 'rid', 'wait waits waited': 'atend', 'dance dances danced': 'balar'}
TRANSITIVE = {'see sees saw': 'vid', 'like likes liked': 'plak', 'chase chases chased': 'pers',
              'hear hears heard': 'aud', 'follow follows followed': 'sek', 'find finds found': 'trov',
              'know knows knew': 'kon', 'love loves loved': 'amor', 'fear fears feared': 'tim',
              'help helps helped': 'jut'}
_PLURALS = {'child': 'children', 'wolf': 'wolves', 'mouse': 'mice'}
_MANY, _OBJECT, _THAT, _PAST = 'ri', 'na', 'che', 'ta'
_IS = {'present': 'os', 'past': 'ost'}


@dataclasses.dataclass(frozen=True)
class Phrase:
    """Somebody: 'the old dog near a cat', 'two birds that sing'.

    Attributes:
      number: 'one' or 'many'.
      determiner, noun, adjectives: English.
      near: (preposition, phrase), or None.
      clause: what they do, or None; of the same subject.
    """
    number: str
    determiner: str
    noun: str
    adjectives: tuple[str, ...] = ()
    near: 'tuple[str, Phrase] | None' = None
    clause: 'Predicate | None' = None


@dataclasses.dataclass(frozen=True)
class Predicate:
    """What somebody does or is.

    Attributes:
      verb: a key of INTRANSITIVE or TRANSITIVE, or an adjective.
      object: of transitive verbs.
    """
    verb: str
    object: Phrase | None = None


@dataclasses.dataclass(frozen=True)
class Sentence:
    """What is said.

    Attributes:
      tense: 'present' or 'past'.
      adverb: English; '' for none.
      subject, predicate: who does what.
    """
    tense: str
    adverb: str
    subject: Phrase
    predicate: Predicate


@functools.cache
def pairs(split: str) -> list[tuple[str, str]]:
    """Returns the sentences of a split in English and in Vel, all different; always the same.

    No sentence is in two splits: a hash of the English one decides where it belongs. Those of 'longer' are longer than
    any other.
    """
    generator, found = random.Random(f'{_SEED} {split}'), {}
    while len(found) < SENTENCES[split]:
        sentence = draw(generator)
        text = english(sentence)
        length = text.count(' ') + 1
        is_longer = LONGEST < length <= MOST
        if is_longer if split == 'longer' else length <= LONGEST and split_of(text) == split:
            found.setdefault(text, vel(sentence))
    return list(found.items())


def split_of(text: str) -> str:
    """Returns the one split that an English sentence of usual length may be in."""
    return _SHARES[hashlib.md5(text.encode()).digest()[0] % len(_SHARES)]


def draw(generator: random.Random) -> Sentence:
    """Draws a sentence."""
    tense = generator.choice(('present', 'past'))
    adverb = generator.choice(sorted(ADVERBS[tense])) if generator.random() < 0.3 else ''
    return Sentence(tense, adverb, _phrase(generator, 0), _predicate(generator, 0))


def english(sentence: Sentence) -> str:
    """Returns a sentence in English, lower-case words between blanks."""
    words = [sentence.adverb] if sentence.adverb else []
    words += _english_phrase(sentence.subject, sentence.tense)
    return ' '.join(words + _english_predicate(sentence.predicate, sentence.subject.number, sentence.tense))


def vel(sentence: Sentence) -> str:
    """Returns a sentence in Vel, words between blanks."""
    words = [ADVERBS[sentence.tense][sentence.adverb]] if sentence.adverb else []
    words += _vel_phrase(sentence.subject, sentence.tense, '')
    return ' '.join(words + _vel_predicate(sentence.predicate, sentence.tense, ''))


def _phrase(generator: random.Random, depth: int) -> Phrase:
    number = generator.choice(('one', 'many'))
    adjectives = generator.sample(sorted(ADJECTIVES), generator.choices((0, 1, 2), (6, 3, 1))[0])
    near = clause = None
    kind = generator.random()
    if depth < 2 and kind < 0.2:
        near = generator.choice(sorted(PREPOSITIONS)), _phrase(generator, depth + 1)
    elif depth < 2 and kind < 0.4:
        clause = _predicate(generator, depth + 1)
    return Phrase(number, generator.choice(sorted(DETERMINERS[number])), generator.choice(sorted(NOUNS)),
                  tuple(adjectives), near, clause)


def _predicate(generator: random.Random, depth: int) -> Predicate:
    kind = generator.random()
    if kind < 0.35:
        return Predicate(generator.choice(sorted(INTRANSITIVE)))
    if kind < 0.85:
        return Predicate(generator.choice(sorted(TRANSITIVE)), _phrase(generator, depth + 1))
    return Predicate(generator.choice(sorted(ADJECTIVES)))


def _english_phrase(phrase: Phrase, tense: str) -> list[str]:
    noun = phrase.noun if phrase.number == 'one' else _PLURALS.get(phrase.noun, phrase.noun + 's')
    words = [phrase.determiner, *phrase.adjectives, noun]
    if words[0] == 'a' and words[1][0] in 'aeiou':
        words[0] = 'an'
    if phrase.near:
        words += [phrase.near[0], *_english_phrase(phrase.near[1], tense)]
    return words + (['that', *_english_predicate(phrase.clause, phrase.number, tense)] if phrase.clause else [])


def _english_predicate(predicate: Predicate, number: str, tense: str) -> list[str]:
    if predicate.verb in ADJECTIVES:
        return [{'present': {'one': 'is', 'many': 'are'}, 'past': {'one': 'was', 'many': 'were'}}[tense][number],
                predicate.verb]
    many, one, past = predicate.verb.split()
    verb = past if tense == 'past' else one if number == 'one' else many
    return [verb] + (_english_phrase(predicate.object, tense) if predicate.object else [])


def _vel_phrase(phrase: Phrase, tense: str, ending: str) -> list[str]:
    many = _MANY if phrase.number == 'many' else ''
    words = []
    if phrase.near:
        words = [*_vel_phrase(phrase.near[1], tense, ''), PREPOSITIONS[phrase.near[0]]]
    if phrase.clause:
        words = _vel_predicate(phrase.clause, tense, _THAT)
    return [*words, NOUNS[phrase.noun] + many + ending, *(ADJECTIVES[word] + many for word in phrase.adjectives),
            DETERMINERS[phrase.number][phrase.determiner]]


def _vel_predicate(predicate: Predicate, tense: str, ending: str) -> list[str]:
    if predicate.verb in ADJECTIVES:
        return [ADJECTIVES[predicate.verb] + _IS[tense] + ending]
    verb = {**INTRANSITIVE, **TRANSITIVE}[predicate.verb] + (_PAST if tense == 'past' else '') + ending
    return (_vel_phrase(predicate.object, tense, _OBJECT) if predicate.object else []) + [verb]
