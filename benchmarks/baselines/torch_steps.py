"""Train steps of a PyTorch model, timed on request: the other end of benchmarks/step_process.py."""

import json
import sys
import time

import torch
from torch.nn import functional


def answer(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Reads numbers of steps from stdin; takes so many of SGD and prints {'ms' per step, 'parameters'} for each.

    Args:
      model: logits from images.
      images: float [batch, channels, height, width].
      labels: integers [batch], or [batch, height, width].
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    for line in sys.stdin:
        steps = int(line)
        begin = time.perf_counter()
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        milliseconds = 1e3 * (time.perf_counter() - begin) / steps
        print(json.dumps({'ms': milliseconds, 'parameters': parameters}), flush=True)
