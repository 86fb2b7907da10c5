"""Translation between English and a made language, Vel, with one right answer for every sentence.

Makes its own data, 20,000 sentences of a grammar (input_pipeline/datasets/made_language.py): verbs go last, relative
clauses and prepositional phrases before their nouns, objects get an ending. test/exact is the share of sentences
translated without a mistake; 'longer' has sentences of 13 to 20 words, longer than any in training. Then:
  python launch.py predict --workdir runs/made_translation "the old dog that sees a cat waits"

Command:   python launch.py --config experiments/made_translation.py
Hardware:  2 CPU cores (Intel Xeon), no GPU, beside other work
Measured:  2026-11-22, after the last step; processor seconds
  get_config    test/exact 100.0 %, longer/exact 98.3 % +- 1.7 (seeds 0, 1, 2); 102 to 177 s
  back          test/exact 100.0 %, longer/exact 98.2 % (seed 0); 139 s
  no_attention  test/exact 60.2 % +- 1.0, longer/exact 0.1 % +- 0.1 (seeds 0, 1, 2); 79 to 110 s
"""

from practicum.training.defaults import base


def get_config():
    """English to Vel, with attention over a bidirectional LSTM's states (Bahdanau et al. 2015)."""
    config = base()
    config.data.source = 'made_texts'
    config.data.name = 'english_to_vel'
    config.text.tokens = config.text.source.tokens = 'whitespace'
    config.text.max_length = 30
    config.model = {'name': 'translator', 'attention': True, 'hidden': 128, 'embedding': 64, 'dropout': 0.2,
                    'body': {'name': 'text_lstm', 'hidden': 64, 'embedding': 64, 'dropout': 0.1}}
    config.task = {'name': 'translation', 'beam_size': 1, 'max_length': 25}
    config.batch_size = 64
    config.total = '8 epochs'
    config.optimizer.learning_rate = 3e-3
    config.optimizer.clip_norm = 1.0
    config.schedule.name = 'cosine'
    config.evaluation.every = '2 epochs'
    config.evaluation.batch_size = 500
    config.evaluation.sets.longer = {'split': 'longer'}
    config.evaluation.final = ('test', 'longer')
    config.checkpoint.best_metric = 'validation/exact'
    return config


def back():
    """Vel to English."""
    config = get_config()
    config.data.name = 'vel_to_english'
    return config


def no_attention():
    """All that was read is one vector of fixed length (Sutskever et al. 2014)."""
    config = get_config()
    config.model.attention = False
    return config
