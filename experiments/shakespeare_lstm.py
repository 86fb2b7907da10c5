"""Word generation, letter by letter: an LSTM language model on the plays of Shakespeare.

Then: python launch.py generate --workdir runs/shakespeare_lstm --prompt "ROMEO:" --length 300 --temperature 0.8

Command:   python launch.py --config experiments/shakespeare_lstm.py --config.data.name=DATA/tinyshakespeare.txt
Hardware:  2 CPU cores (AMD EPYC), no GPU
Measured:  2026-11-20, beside other runs
  test/bits_per_character 2.372 (validation 2.167, seed 0); 9:19 min
"""

from practicum.training.defaults import base


def get_config():
    """2 layers of 256 units; letters go in as one-hot vectors."""
    config = base()
    config.data.source = 'text'
    config.data.name = 'tinyshakespeare.txt'
    config.data.train = 'train[:90%]'  # lines
    config.text.tokens = 'characters'
    config.text.num_steps = 64
    config.model = {'name': 'lstm', 'inputs': 'one_hot', 'hidden': 256, 'layers': 2, 'dropout': 0.2}
    config.task = {'name': 'language_model'}
    config.batch_size = 32
    config.total = '4 epochs'
    config.log_every = '100 steps'
    config.optimizer.learning_rate = 3e-3
    config.optimizer.clip_norm = 1.0
    config.schedule.name = 'cosine'
    config.evaluation.sets.validation.split = 'train[90%:95%]'
    config.evaluation.sets.test.split = 'train[95%:]'
    config.checkpoint.best_metric = 'validation/bits_per_character'
    config.checkpoint.best_mode = 'min'
    return config
