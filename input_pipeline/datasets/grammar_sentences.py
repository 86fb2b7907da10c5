"""Sentences of a probabilistic context-free grammar, whose entropy is known: no language model can be better than that.

Subjects agree with their verbs in number, also across relative clauses, and all verbs of a sentence in tense with one
another and with an adverb. Each sentence has one derivation only, as no noun has two modifiers and no word two uses
that could be taken for one another; so the probability of a sentence is that of the rules it was made by.
"""

import functools
import math
import random
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow_datasets as tfds

SENTENCES = {'train': 20_000, 'validation': 1000, 'test': 1000}
START = 'sentence'
_SEED = 1956

# Symbol -> its rules: probability, and what the symbol becomes. What is no symbol is a word.
Grammar = Mapping[str, Sequence[tuple[float, tuple[str, ...]]]]

_NOUNS = 'dog cat boy girl bird teacher child farmer horse wolf doctor king sailor fox mouse queen lion poet'.split()
_PLURALS = {'child': 'children', 'wolf': 'wolves', 'fox': 'foxes', 'mouse': 'mice'}
_ADJECTIVES = 'old small young happy red tired brave quiet tall clever hungry strange'.split()
# Verbs: of one, of many, in the past.
_INTRANSITIVE = ('sleeps sleep slept', 'runs run ran', 'sings sing sang', 'laughs laugh laughed', 'waits wait waited',
                 'falls fall fell', 'dances dance danced', 'swims swim swam')
_TRANSITIVE = ('sees see saw', 'likes like liked', 'chases chase chased', 'hears hear heard', 'follows follow followed',
               'finds find found', 'knows know knew', 'loves love loved', 'fears fear feared', 'helps help helped')


class GrammarSentences(tfds.core.GeneratorBasedBuilder):
    """22,000 sentences drawn independently from one grammar, one a line, of about 7 words out of 123.

    The metadata tell, in nats and with the end of each sentence counted as a token, the grammar's entropy per token and
    what the sentences of each split cost under the grammar itself. Short sentences occur more than once, in several
    splits too: leaving them out would make the splits' distributions differ.
    """

    VERSION = tfds.core.Version('1.0.0')
    RELEASE_NOTES = {'1.0.0': 'First version.'}

    def _info(self) -> tfds.core.DatasetInfo:
        entropy, length = entropy_and_length(grammar())
        metadata = {'grammar': 'sentences', 'grammar_entropy_nats_per_token': entropy / (length + 1),
                    'words_per_sentence': length,
                    'grammar_nats_per_token': {split: _nats_per_token(split) for split in SENTENCES}}
        return self.dataset_info_from_configs(
            description=self.__doc__, features=tfds.features.FeaturesDict({'text': tfds.features.Text()}),
            metadata=tfds.core.MetadataDict(metadata))

    def _split_generators(self, dl_manager):
        del dl_manager
        return {split: self._generate_examples(split) for split in SENTENCES}

    def _generate_examples(self, split: str):
        """Yields (number, example)."""
        for index, (words, _) in enumerate(sentences(split)):
            yield index, {'text': ' '.join(words)}


@functools.cache
def sentences(split: str) -> list[tuple[list[str], float]]:
    """Returns the sentences of a split, each as its words and its log-probability in nats; always the same."""
    generator = random.Random(f'{_SEED} {split}')
    return [sample(grammar(), generator) for _ in range(SENTENCES[split])]


def sample(rules: Grammar, generator: random.Random) -> tuple[list[str], float]:
    """Draws a sentence.

    Returns:
      Its words, and the log-probability of its derivation in nats.
    """
    words, log_probability, open_symbols = [], 0.0, [START]
    while open_symbols:
        symbol = open_symbols.pop()
        if symbol not in rules:
            words.append(symbol)
            continue
        probabilities, results = zip(*rules[symbol])
        chosen = generator.choices(range(len(results)), probabilities)[0]
        log_probability += math.log(probabilities[chosen])
        open_symbols.extend(reversed(results[chosen]))
    return words, log_probability


def entropy_and_length(rules: Grammar) -> tuple[float, float]:
    """Returns the entropy of a sentence's derivation in nats, and its expected number of words, both exactly.

    Each is linear: what a symbol is expected to give is what its rule gives and then what the symbols of the rule give
    (Grenander 1967, "Syntax-controlled probabilities"; Chi 1999, "Statistical properties of probabilistic context-free
    grammars").
    """
    order = {symbol: row for row, symbol in enumerate(rules)}
    children, own = np.zeros((len(order), len(order))), np.zeros((len(order), 2))
    for symbol, row in order.items():
        for probability, result in rules[symbol]:
            own[row] += probability * np.array([-math.log(probability), sum(part not in order for part in result)])
            for part in result:
                if part in order:
                    children[row, order[part]] += probability
    entropy, length = np.linalg.solve(np.eye(len(order)) - children, own)[order[START]]
    return float(entropy), float(length)


@functools.cache
def grammar() -> Grammar:
    """Returns the rules."""
    rules = {START: ((0.45, ('clause present',)), (0.25, ('clause past',)),
                     (0.15, ('adverb present', 'clause present')), (0.15, ('adverb past', 'clause past'))),
             'adverb present': _words('today now'.split()), 'adverb past': _words('yesterday once recently'.split()),
             'preposition': _words('near behind with'.split()), 'adjective': _words(_ADJECTIVES),
             'determiner one': _words('the a every this'.split()),
             'determiner many': _words('the some two many these'.split()),
             'noun one': _words(_NOUNS), 'noun many': _words([_PLURALS.get(noun, noun + 's') for noun in _NOUNS])}
    for number in ('one', 'many'):
        rules[f'core {number}'] = ((1.0, (f'determiner {number}', f'described {number}')),)
        rules[f'described {number}'] = ((0.7, (f'noun {number}',)), (0.3, ('adjective', f'described {number}')))
    for tense in ('present', 'past'):
        rules[f'clause {tense}'] = tuple((p, (f'phrase {number} {tense}', f'predicate {number} {tense}'))
                                         for p, number in ((0.55, 'one'), (0.45, 'many')))
        rules[f'phrase {tense}'] = ((0.6, (f'phrase one {tense}',)), (0.4, (f'phrase many {tense}',)))
        for number, form, be in (('one', 0, 'is was'), ('many', 1, 'are were')):
            form = form if tense == 'present' else 2
            verbs = f'{number} {tense}'
            rules[f'intransitive {verbs}'] = _words([verb.split()[form] for verb in _INTRANSITIVE])
            rules[f'transitive {verbs}'] = _words([verb.split()[form] for verb in _TRANSITIVE])
            rules[f'predicate {verbs}'] = (
                (0.4, (f'intransitive {verbs}',)), (0.45, (f'transitive {verbs}', f'phrase {tense}')),
                (0.15, (be.split()[tense == 'past'], 'adjective')))
            core = f'core {number}'
            rules[f'phrase {verbs}'] = (
                (0.7, (core,)), (0.15, (core, 'preposition', f'phrase {tense}')),
                (0.09, (core, 'that', f'predicate {verbs}')),
                *((p, (core, 'that', f'phrase {subject} {tense}', f'transitive {subject} {tense}'))
                  for p, subject in ((0.035, 'one'), (0.025, 'many'))))
    return rules


def _words(words: Sequence[str]) -> tuple[tuple[float, tuple[str]], ...]:
    """Rules to each of the words, the first the most frequent, by Zipf's law."""
    total = sum(1 / rank for rank in range(1, len(words) + 1))
    return tuple((1 / rank / total, (word,)) for rank, word in enumerate(words, start=1))


def _nats_per_token(split: str) -> float:
    drawn = sentences(split)
    return -sum(log_probability for _, log_probability in drawn) / sum(len(words) + 1 for words, _ in drawn)
