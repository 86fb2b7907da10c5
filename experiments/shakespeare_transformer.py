"""Word generation, letter by letter, with a small transformer, beside the LSTM of shakespeare_lstm.

Then: python launch.py generate --workdir runs/shakespeare_transformer --prompt "ROMEO:" --length 300 --temperature 0.8

Command:   python launch.py --config experiments/shakespeare_transformer.py --config.data.name=DATA/tinyshakespeare.txt
Hardware:  2 CPU cores (Intel Xeon), no GPU, beside other work
Measured:  2026-11-22, after the last step, seed 0
  test/bits_per_character 2.472 (validation 2.228); 425 processor seconds
  the same weights with the letters of the window before, evaluate --config.task.carry=True: 2.427 (validation 2.170)
  carried    test/bits_per_character 2.396 (validation 2.170); 501 processor seconds
"""

from practicum.training.defaults import base


def get_config():
    """4 layers of 128, of 4 heads; every window of 64 letters begins without a past, as in nanoGPT."""
    config = base()
    config.data.source = 'text'
    config.data.name = 'tinyshakespeare.txt'
    config.data.train = 'train[:90%]'  # lines
    config.text.tokens = 'characters'
    config.text.num_steps = 64
    config.model = {'name': 'transformer', 'width': 128, 'layers': 4, 'heads': 4, 'context': 64}
    config.task = {'name': 'language_model', 'carry': False}
    config.batch_size = 32
    config.total = '4 epochs'
    config.log_every = '100 steps'
    config.optimizer.name = 'adamw'
    config.optimizer.learning_rate = 2e-3
    config.optimizer.b2 = 0.99
    config.optimizer.weight_decay = 0.1
    config.optimizer.clip_norm = 1.0
    config.schedule.name = 'cosine'
    config.schedule.warmup = '100 steps'
    config.evaluation.sets.validation.split = 'train[90%:95%]'
    config.evaluation.sets.test.split = 'train[95%:]'
    config.checkpoint.best_metric = 'validation/bits_per_character'
    config.checkpoint.best_mode = 'min'
    return config


def carried():
    """Every letter is told from the 64 before it, in the window before, too, but without gradients into that."""
    config = get_config()
    config.task.carry = True
    return config
