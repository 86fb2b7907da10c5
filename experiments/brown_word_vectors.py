"""Word vectors of the Brown corpus, a million words, by skip-gram with negative sampling.

Reads the files of experiments/brown_lstm.py. Then: python launch.py neighbors --workdir runs/brown_word_vectors
--words king "king - man + woman"

Command:   python launch.py --config experiments/brown_word_vectors.py --config.data.name=DATA/brown
Hardware:  2 CPU cores (Intel Xeon), no GPU, beside other work
Measured:  2026-11-22, after the last step
  7.1 % of 4,976 analogies solved (seed 0), by PPMI and SVD 12.6 %; 145 processor-s
"""

from practicum.training.defaults import base


def get_config():
    """100 numbers a word, 5 words on each side, 5 negatives, 12 passes over the text."""
    config = base()
    config.total = '12 epochs'
    config.batch_size = 4096
    config.log_every = '200 steps'
    config.data.source = 'text'
    config.data.name = 'brown'
    config.text.tokens = 'words'
    config.text.min_count = 5
    config.text.window = 5
    config.text.subsample = 1e-3
    config.model = {'name': 'skip_gram', 'width': 100}
    config.task = {'name': 'skip_gram', 'negatives': 5, 'power': 0.75,
                   'words': ('money', 'king', 'river', 'monday', 'three', 'walked', 'church', 'red')}
    config.optimizer.learning_rate = 3e-3
    config.schedule.name = 'linear'
    config.evaluation.every = '3 epochs'
    config.evaluation.batch_size = 8192
    config.evaluation.sets.validation.split = 'valid'
    config.checkpoint.every = '3 epochs'
    # The last one: analogies go on getting better when the loss on other texts no longer does.
    config.checkpoint.best_metric = ''
    return config
