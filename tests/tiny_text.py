"""The smallest text and language model: sentences of twelve words, an LSTM of eight units. Tests change what they are
about.
"""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from practicum.training import config as config_lib
from practicum.training.defaults import base

WORDS = ('ant', 'bee', 'cat', 'dog', 'eel', 'fox', 'gnu', 'hen', 'ibis', 'jay', 'kite', 'lion')


def write_corpus(folder: Path, words: tuple[str, ...] = WORDS, tokens: int = 299) -> Path:
    """Writes train.txt, valid.txt and test.txt; returns the folder.

    Every word is mostly followed by the next one of the list, lines are of different lengths; the training text has so
    many tokens with the ends of its lines, and each word of the list.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for split, length in (('train', tokens), ('valid', 83), ('test', 61)):
        place, text = 0, []
        for i in range(length - 1):
            place = place + 1 if i < len(words) or generator.random() < 0.8 else int(generator.integers(len(words)))
            line_ends = len(words) < i < length - 2 and generator.random() < 0.15 and text[-1] != '\n'
            text.append('\n' if line_ends else words[place % len(words)])
        (folder / f'{split}.txt').write_text(' '.join(text).replace(' \n ', '\n') + '\n')
    return folder


def text_config(corpus: Path, *overrides: str) -> ConfigDict:
    """Returns a locked config of 12 steps of 8 rows of 5 tokens, 7 steps to an epoch; overrides as for launch.py."""
    return config_lib.load(__file__, (f'data.name={corpus}', *overrides))


def get_config() -> ConfigDict:
    config = base()
    config.total = '12 steps'
    config.batch_size = 8
    config.log_every = '3 steps'
    config.tensorboard = False
    config.figures = False
    config.data.source = 'text'
    config.text.tokens = 'whitespace'
    config.text.num_steps = 5
    config.text.streams = 6
    config.model = {'name': 'lstm', 'hidden': 8, 'embedding': 8, 'layers': 2, 'dropout': 0.3, 'init_scale': 0.5}
    config.task = {'name': 'language_model'}
    config.optimizer.name = 'sgd'
    config.optimizer.learning_rate = 0.5
    config.evaluation.every = '6 steps'
    config.evaluation.sets.validation.split = 'valid'
    config.checkpoint.every = '6 steps'
    config.checkpoint.best_metric = 'validation/perplexity'
    config.checkpoint.best_mode = 'min'
    return config
