"""Word generation: an LSTM language model on the Brown corpus, a million words of American English of 1961.

Reads DATA/brown.train.txt, DATA/brown.valid.txt and DATA/brown.test.txt, or .txt.gz: one sentence per line, tokens
between blanks. Then: python launch.py generate --workdir runs/brown_lstm-small --prompt "the white house"

Command:   python launch.py --config experiments/brown_lstm.py:small --config.data.name=DATA/brown
Hardware:  2 CPU cores (AMD EPYC), no GPU
Measured:  2026-11-20
  small   test/perplexity 104.1 (seed 0), validation 104.6; 1:14 h beside other runs
  medium  not run
"""

from practicum.training.defaults import base


def get_config():
    """The small network of Zaremba et al. 2014: 2 layers of 200 units, windows of 20 words, 13 epochs."""
    config = base()
    config.data.source = 'text'
    config.data.name = 'brown'
    config.text.tokens = 'whitespace'
    config.text.lowercase = True
    config.text.max_size = 10_000
    config.text.num_steps = 20
    config.model = {'name': 'lstm', 'hidden': 200, 'embedding': 200, 'layers': 2, 'dropout': 0.0, 'init_scale': 0.1}
    config.task = {'name': 'language_model'}
    config.batch_size = 20
    config.total = '13 epochs'
    config.log_every = '500 steps'

    config.optimizer.name = 'sgd'
    config.optimizer.momentum = 0.0
    # The paper's learning rate of 1 and gradient norm of 5 are of the loss summed over 20 steps, ours is the mean.
    config.optimizer.learning_rate = 20.0
    config.optimizer.clip_norm = 0.25
    _decay(config, first=4, last=12, factor=0.5)

    config.evaluation.periodic = ('validation',)
    config.evaluation.sets.validation.split = 'valid'
    config.checkpoint.best_metric = 'validation/perplexity'
    config.checkpoint.best_mode = 'min'
    return config


def small():
    """The same; the paper's name for it."""
    return get_config()


def medium():
    """The paper's medium network: 2 layers of 650 units, half of them dropped, windows of 35 words, 39 epochs."""
    config = get_config()
    config.text.num_steps = 35
    config.model = {'name': 'lstm', 'hidden': 650, 'embedding': 650, 'layers': 2, 'dropout': 0.5, 'init_scale': 0.05}
    config.total = '39 epochs'
    config.optimizer.learning_rate = 35.0
    config.optimizer.clip_norm = 5 / 35
    _decay(config, first=6, last=38, factor=0.8)
    return config


def _decay(config, *, first: int, last: int, factor: float):
    """The learning rate times `factor` after epoch `first` and each that follows."""
    config.schedule.name = 'piecewise'
    config.schedule.boundaries = tuple(f'{epoch} epochs' for epoch in range(first, last + 1))
    config.schedule.factors = tuple(factor ** power for power in range(1, last - first + 2))
