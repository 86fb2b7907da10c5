"""Analogies between words, of the kinds of Mikolov et al.'s (2013) questions: Athens is to Greece as Oslo is to ...

The pairs are ours, of words that books and newspapers have. Every two pairs of a kind are a question in both orders.
"""

import itertools
from collections.abc import Container

PAIRS: dict[str, str] = {
    'family': 'man woman, men women, boy girl, boys girls, king queen, father mother, fathers mothers, son daughter, '
              'sons daughters, brother sister, brothers sisters, husband wife, husbands wives, uncle aunt, he she, '
              'his her, him her, himself herself, prince princess, actor actress, gentleman lady, gentlemen ladies, '
              'grandfather grandmother, nephew niece',
    'capital': 'athens greece, berlin germany, london england, paris france, rome italy, moscow russia, madrid spain, '
               'tokyo japan, cairo egypt, havana cuba, oslo norway, vienna austria, warsaw poland, ottawa canada, '
               'dublin ireland, lisbon portugal, stockholm sweden, copenhagen denmark, brussels belgium, '
               'budapest hungary, ankara turkey, baghdad iraq, washington america',
    'opposite': 'possible impossible, certain uncertain, known unknown, able unable, likely unlikely, usual unusual, '
                'aware unaware, fortunate unfortunate, happy unhappy, pleasant unpleasant, comfortable uncomfortable, '
                'direct indirect, dependent independent, regular irregular, equal unequal, conscious unconscious, '
                'expected unexpected, important unimportant, necessary unnecessary, limited unlimited',
    'comparative': 'old older, young younger, large larger, small smaller, great greater, high higher, low lower, '
                   'long longer, short shorter, strong stronger, weak weaker, big bigger, fast faster, slow slower, '
                   'hard harder, easy easier, deep deeper, wide wider, close closer, dark darker, warm warmer, '
                   'rich richer, good better, bad worse, early earlier, late later',
    'superlative': 'old oldest, young youngest, large largest, small smallest, great greatest, high highest, '
                   'low lowest, long longest, short shortest, strong strongest, big biggest, deep deepest, '
                   'rich richest, good best, bad worst, early earliest, late latest, simple simplest',
    'adverb': 'quick quickly, slow slowly, sudden suddenly, clear clearly, complete completely, rapid rapidly, '
              'general generally, usual usually, final finally, immediate immediately, direct directly, '
              'careful carefully, easy easily, perfect perfectly, exact exactly, quiet quietly, recent recently, '
              'serious seriously, apparent apparently, probable probably, strong strongly, deep deeply, free freely',
    'present participle': 'go going, look looking, say saying, run running, write writing, read reading, walk walking, '
                          'think thinking, play playing, sing singing, move moving, see seeing, come coming, '
                          'take taking, make making, give giving, find finding, work working, try trying, '
                          'talk talking, sit sitting, stand standing, hold holding, buy buying',
    'past': 'going went, looking looked, saying said, running ran, writing wrote, reading read, walking walked, '
            'thinking thought, playing played, moving moved, seeing saw, coming came, taking took, making made, '
            'giving gave, finding found, working worked, trying tried, talking talked, sitting sat, '
            'standing stood, holding held, buying bought, telling told',
    'plural': 'man men, woman women, child children, year years, day days, hand hands, eye eyes, house houses, '
              'car cars, city cities, country countries, student students, teacher teachers, friend friends, '
              'boy boys, girl girls, dog dogs, horse horses, tree trees, road roads, river rivers, book books, '
              'word words, school schools, church churches, state states, foot feet, wife wives',
    'plural verb': 'goes go, looks look, says say, runs run, writes write, reads read, thinks think, plays play, '
                   'moves move, sees see, comes come, takes take, makes make, gives give, finds find, works work, '
                   'seems seem, becomes become, knows know, means mean, needs need, wants want',
    'nationality': 'america american, england english, france french, germany german, italy italian, russia russian, '
                   'spain spanish, japan japanese, china chinese, greece greek, africa african, europe european, '
                   'asia asian, ireland irish, india indian, mexico mexican, canada canadian, cuba cuban, '
                   'britain british, sweden swedish, poland polish, egypt egyptian',
}


def questions(words: Container[str]) -> dict[str, list[tuple[str, str, str, str]]]:
    """Returns the questions whose words are all known, by kind: ('man', 'king', 'woman', 'queen').

    Args:
      words: a vocabulary.
    """
    found = {}
    for kind, pairs in PAIRS.items():
        known = [pair for pair in (tuple(text.split()) for text in pairs.split(', ')) if all(w in words for w in pair)]
        asked = [(*one, *other) for one, other in itertools.permutations(known, 2) if len({*one, *other}) == 4]
        if asked:
            found[kind] = asked
    return found
