"""The smallest texts that are translated or classified: numbers in words. Tests change what they are about."""

from pathlib import Path

from practicum.training.defaults import base

DIGITS = {'one': '1', 'two': '2', 'three': '3'}


def write_table(folder: Path) -> Path:
    """Writes numbers.csv with the columns source and target, 'one two' and '12', all of one or two digits."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [(a, b) for a in DIGITS for b in ('', *DIGITS)]
    rows = [f"{' '.join(filter(None, pair))},{''.join(DIGITS.get(word, '') for word in pair)}" for pair in words]
    (folder / 'numbers.csv').write_text('\n'.join(['source,target', *rows]) + '\n')
    return folder / 'numbers.csv'


def write_classes(folder: Path) -> Path:
    """Writes odd/*.txt and even/*.txt; returns the folder."""
    for name, words in (('odd', ('one', 'three', 'five')), ('even', ('two', 'four', 'six'))):
        (folder / name).mkdir(parents=True)
        for number, word in enumerate(words):
            (folder / name / f'{number}.txt').write_text(f'The number\n is {word}.\n')
    return folder


def get_config():
    config = base()
    config.data.source = 'texts'
    config.text.tokens = 'characters'
    config.text.source.max_length = 4
    config.model = {'name': 'translator', 'hidden': 16, 'embedding': 8, 'dropout': 0.0,
                    'body': {'name': 'text_lstm', 'hidden': 8, 'embedding': 8}}
    config.task = {'name': 'translation'}
    config.batch_size = 12
    config.total = '100 steps'
    config.evaluation.every = '0 steps'
    config.log_every = '50 steps'
    config.tensorboard = False
    config.optimizer.learning_rate = 0.02
    config.evaluation.batch_size = 12
    config.evaluation.sets.test.split = 'train'
    config.evaluation.periodic = ()
    config.checkpoint.best_metric = ''
    config.checkpoint.every = ''  # at the end: a batch is an epoch
    config.parallel.devices = 1
    return config


def classes():
    config = get_config()
    config.text.tokens = 'words'
    config.text.max_length = 5
    config.model = {'name': 'bag_of_words', 'embedding': 8}
    config.task = {'name': 'classification', 'per_example': True}
    config.batch_size = 6
    config.total = '60 steps'
    return config
