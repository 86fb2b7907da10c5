"""Trains LeNet on MNIST with PyTorch on the CPU, as a baseline for speed.

  python lenet_torch.py --data mnist.npz --batch 64 --epochs 2

The data file holds train_images, uint8 [60000, 28, 28, 1], train_labels, test_images and
test_labels. Plain eager PyTorch in its fastest form for this model: channels_last memory, fused
Adam, and batches taken from tensors by index instead of by a DataLoader. The last line of the
output is JSON; `seconds` is a whole epoch, input and evaluation included, and `step_ms` the mean
training step of the last epoch, input included.
"""

import argparse
import json
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

EVAL_BATCH = 500


class LeNet(nn.Module):
    """The network of models/lenet.py with its default fields."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.dense1 = nn.Linear(4 * 4 * 50, 500)
        self.logits = nn.Linear(500, 10)

    def forward(self, images):
        x = functional.max_pool2d(self.conv1(images), 2)
        x = functional.max_pool2d(self.conv2(x), 2)
        return self.logits(functional.relu(self.dense1(x.flatten(1))))


def main():
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    data = np.load(arguments.data)
    train_images, test_images = to_tensor(data['train_images']), to_tensor(data['test_images'])
    train_labels = torch.from_numpy(data['train_labels']).long()
    test_labels = torch.from_numpy(data['test_labels']).long()

    model = LeNet().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    epochs = []
    for _ in range(arguments.epochs):
        start = time.perf_counter()
        steps = train_epoch(model, optimizer, train_images, train_labels, arguments.batch)
        train_seconds = time.perf_counter() - start
        accuracy = evaluate(model, test_images, test_labels)
        seconds = time.perf_counter() - start
        epochs.append(
            {'seconds': seconds, 'examples_per_second': len(train_images) / seconds, 'test_accuracy': accuracy}
        )
    print(
        json.dumps(
            {
                'framework': f'torch {torch.__version__}',
                'batch': arguments.batch,
                'epochs': epochs,
                'step_ms': 1e3 * train_seconds / steps,
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


def to_tensor(images):
    """uint8 [n, height, width, 1] -> float32 in [0, 1], [n, 1, height, width], channels_last."""
    tensor = torch.from_numpy(images).float().div_(255).permute(0, 3, 1, 2)
    return tensor.contiguous(memory_format=torch.channels_last)


def train_epoch(model, optimizer, images, labels, batch):
    """Trains on every image once, in random order; returns the number of steps."""
    model.train()
    batches = torch.randperm(len(images)).split(batch)
    for index in batches:
        optimizer.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(model(images[index]), labels[index])
        loss.backward()
        optimizer.step()
    return len(batches)


@torch.inference_mode()
def evaluate(model, images, labels):
    model.eval()
    correct = 0
    for image_batch, label_batch in zip(images.split(EVAL_BATCH), labels.split(EVAL_BATCH)):
        correct += (model(image_batch).argmax(1) == label_batch).sum().item()
    return correct / len(images)


if __name__ == '__main__':
    main()
