"""Trains LeNet on MNIST with Keras 3 on TensorFlow on the CPU, as a baseline for speed.

  python lenet_keras.py --data mnist.npz --batch 64 --epochs 2

The data file holds train_images, uint8 [60000, 28, 28, 1], train_labels, test_images and
test_labels. Compiled `fit` on arrays in memory. The last line of the output is JSON; `seconds`
is a whole epoch, input and evaluation included, and `step_ms` the mean training step of the last
epoch, input included.
"""

import argparse
import json
import os
import time

os.environ['KERAS_BACKEND'] = 'tensorflow'  # Keras reads it when it is imported.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import keras
import numpy as np
import tensorflow as tf

EVAL_BATCH = 500


class EpochTimer(keras.callbacks.Callback):
    """Notes the seconds of each epoch, and of its training part."""

    def __init__(self):
        super().__init__()
        self.epoch_seconds = []
        self.train_seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_test_begin(self, logs=None):
        self.train_seconds.append(time.perf_counter() - self.start)

    def on_epoch_end(self, epoch, logs=None):
        self.epoch_seconds.append(time.perf_counter() - self.start)


def main():
    arguments = parse_arguments()
    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    tf.config.threading.set_inter_op_parallelism_threads(arguments.threads)
    keras.utils.set_random_seed(arguments.seed)
    data = np.load(arguments.data)
    train_images = data['train_images'].astype(np.float32) / 255
    test_images = data['test_images'].astype(np.float32) / 255

    model = lenet()
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=['accuracy'],
    )
    timer = EpochTimer()
    history = model.fit(
        train_images,
        data['train_labels'],
        batch_size=arguments.batch,
        epochs=arguments.epochs,
        validation_data=(test_images, data['test_labels']),
        validation_batch_size=EVAL_BATCH,
        callbacks=[timer],
        verbose=0,
    ).history
    epochs = [
        {'seconds': seconds, 'examples_per_second': len(train_images) / seconds, 'test_accuracy': accuracy}
        for seconds, accuracy in zip(timer.epoch_seconds, history['val_accuracy'])
    ]
    steps = -(-len(train_images) // arguments.batch)
    print(
        json.dumps(
            {
                'framework': f'keras {keras.__version__}, tensorflow {tf.__version__}',
                'batch': arguments.batch,
                'epochs': epochs,
                'step_ms': 1e3 * timer.train_seconds[-1] / steps,
            }
        )
    )


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', required=True, help='npz file')
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--epochs', type=int, default=2)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--seed', type=int, default=0)
    return parser.parse_args()


def lenet():
    """The network of models/lenet.py with its default fields."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(20, 5, name='conv1'),
            keras.layers.MaxPooling2D(2),
            keras.layers.Conv2D(50, 5, name='conv2'),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(500, activation='relu', name='dense1'),
            keras.layers.Dense(10, name='logits'),
        ]
    )


if __name__ == '__main__':
    main()
