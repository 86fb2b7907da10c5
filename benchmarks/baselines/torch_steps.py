"""Train steps of a PyTorch model, timed on request: the other end of benchmarks/step_process.py."""

import json
import sys
import time

import torch
from torch.nn import functional


def answer(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, *, momentum: float = 0.0,
           precision: str = 'float32') -> None:
    """Reads numbers of steps from stdin; takes so many of SGD and prints for each {'ms' per step, 'cpu_ms',
    'parameters'}, on a GPU also 'peak_mb'.

    Args:
      model: logits from images.
      images: float [batch, channels, height, width], where the model is.
      labels: integers [batch], or [batch, height, width].
      momentum: of the optimizer, which is fused on GPUs.
      precision: 'bfloat16' computes in it by autocast.
    """
    device = images.device.type
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=momentum, fused=device == 'cuda')
    parameters = sum(parameter.numel() for parameter in model.parameters())
    for line in sys.stdin:
        steps = int(line)
        begin, processors = time.perf_counter(), time.process_time()
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device, torch.bfloat16, enabled=precision == 'bfloat16'):
                loss = functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
        if device == 'cuda':
            torch.cuda.synchronize()
        found = {'ms': 1e3 * (time.perf_counter() - begin) / steps,
                 'cpu_ms': 1e3 * (time.process_time() - processors) / steps, 'parameters': parameters}
        if device == 'cuda':
            found['peak_mb'] = round(torch.cuda.max_memory_allocated() / 1e6)
        print(json.dumps(found), flush=True)
