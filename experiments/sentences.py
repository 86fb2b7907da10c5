"""Sentences to classes: made reviews of films, in which 'not' and 'although' decide, read by an LSTM.

Makes its own data (input_pipeline/datasets/reviews.py): the class of each follows from its grammar. Then:
  python launch.py predict --workdir runs/sentences "although the plot is dull, the cast was never weak."

Command:   python launch.py --config experiments/sentences.py
Hardware:  2 CPU cores (Intel Xeon), no GPU, beside other work
Measured:  2026-11-22, after the last step; processor seconds
  get_config    test/accuracy 100.00 % (1,000 of 1,000; seed 0); 37 s
  bag_of_words  test/accuracy 79.77 % +- 0.81 (seeds 0, 1, 2); 12 s
  imdb          not measured: the data set is not there
"""

from practicum.training.defaults import base


def get_config():
    """A bidirectional LSTM whose last states of both directions are classified."""
    config = base()
    config.data.source = 'made_texts'
    config.data.name = 'reviews'
    config.text.tokens = 'pieces'
    config.text.max_length = 24
    config.model = {'name': 'text_lstm', 'hidden': 48, 'embedding': 32, 'dropout': 0.2}
    config.task = {'name': 'classification', 'per_example': True}
    config.batch_size = 64
    config.total = '8 epochs'
    config.optimizer.learning_rate = 4e-3
    config.optimizer.clip_norm = 1.0
    config.schedule.name = 'cosine'
    config.evaluation.batch_size = 500
    config.checkpoint.best_metric = 'validation/accuracy'
    return config


def bag_of_words():
    """The mean of the words' vectors and a hidden layer: which words there are, and not where."""
    config = get_config()
    config.model = {'name': 'bag_of_words', 'embedding': 64, 'hidden': (128,), 'dropout': 0.2}
    return config


def imdb():
    """25,000 reviews by people, positive or negative, of tensorflow-datasets (Maas et al. 2011)."""
    config = get_config()
    config.data.source = 'tfds_texts'
    config.data.name = 'imdb_reviews'
    config.data.train = 'train[:-2500]'
    config.text.tokens = 'words'
    config.text.max_size = 20_000
    config.text.max_length = 300
    config.model = {'name': 'text_lstm', 'hidden': 128, 'embedding': 128, 'dropout': 0.4}
    config.total = '5 epochs'
    config.optimizer.learning_rate = 1e-3
    config.evaluation.sets.validation.split = 'train[-2500:]'
    return config
