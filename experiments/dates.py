"""Dates in words to ISO 8601, letter by letter, with an LSTM that looks at one word after the other.

Makes its own data, 28 ways to write a day (input_pipeline/datasets/dates.py); no day is in two splits. test/exact is
the share of dates of which every digit is right. Then:
  python launch.py predict --workdir runs/dates "the third of March nineteen eighty-four"

Command:   python launch.py --config experiments/dates.py
Hardware:  2 CPU cores (Intel Xeon), no GPU, beside other work
Measured:  2026-11-22, after the last step; processor seconds
  get_config    test/exact 100.0 % (2,000 of 2,000 with each of the seeds 0, 1, 2); 77 to 124 s
  no_attention  test/exact 97.00 % +- 0.13 (seeds 0, 1, 2); 59 to 92 s
"""

from practicum.training.defaults import base


def get_config():
    """Attention over a bidirectional LSTM's states (Bahdanau et al. 2015)."""
    config = base()
    config.data.source = 'made_texts'
    config.data.name = 'dates'
    config.text.tokens = 'characters'
    config.text.source.tokens = 'pieces'
    config.model = {'name': 'translator', 'attention': True, 'hidden': 96, 'embedding': 32, 'dropout': 0.0,
                    'body': {'name': 'text_lstm', 'hidden': 48, 'embedding': 32}}
    config.task = {'name': 'translation', 'beam_size': 1}
    config.batch_size = 128
    config.total = '6 epochs'
    config.optimizer.learning_rate = 4e-3
    config.optimizer.clip_norm = 1.0
    config.schedule.name = 'cosine'
    config.evaluation.batch_size = 500
    config.checkpoint.best_metric = 'validation/exact'
    return config


def no_attention():
    """All that was read is one vector of fixed length (Sutskever et al. 2014)."""
    config = get_config()
    config.model.attention = False
    return config
