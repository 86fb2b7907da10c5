"""Timing several ways of the same thing in turns, so that a slow minute of the machine is one for all of them."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp


def measure(runs: Mapping[str, Callable[[int], float]], rounds: int, steps: int, *, warm_up: int = 2
            ) -> dict[str, list[float]]:
    """Runs all of them in every round, in turned order.

    Args:
      runs: name -> run(steps), which returns milliseconds per step.
      rounds: measurements of each.
      steps: of a measurement.
      warm_up: steps before the first, which may compile.

    Returns:
      name -> milliseconds per step of every round.
    """
    times = {name: [] for name in runs}
    for run in runs.values():
        run(warm_up)
    for number in range(rounds):
        for name in (runs if number % 2 else reversed(runs)):
            times[name].append(runs[name](steps))
    return times


def parameters(built: Mapping[str, tuple[Callable, int]]) -> int:
    """Returns how many parameters all of them have, of name -> (run, number of parameters).

    Raises:
      AssertionError: they are not the same network.
    """
    counts = {name: count for name, (_, count) in built.items()}
    if len(set(counts.values())) > 1:
        raise AssertionError(f'not the same network: {counts} parameters')
    return next(iter(counts.values()))


def training(step: Callable, state: Any, batch: Any) -> Callable[[int], float]:
    """Returns run(steps) -> milliseconds per step of a compiled train step, on a batch that lies on the device.

    Off the CPU a step takes its batch's memory, so each gets a copy, which is made on the device.
    """
    from practicum.models import cpu_kernels  # a checkout is the package only after `import launch`

    copy = (lambda batch: batch) if cpu_kernels.on_cpu() else jax.jit(lambda batch: jax.tree.map(jnp.copy, batch))

    def run(steps: int) -> float:
        nonlocal state
        begin = time.perf_counter()
        for _ in range(steps):
            state, metrics = step(state, copy(batch))
        jax.block_until_ready((state, metrics))
        return 1e3 * (time.perf_counter() - begin) / steps
    return run
