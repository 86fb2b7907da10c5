"""What the name of a metric says of it."""

import re

_LOWER_IS_BETTER = re.compile('loss|perplexity|error|bits_per|distance|hd95|apd|_mm$')


def usual_mode(name: str) -> str:
    """Returns whether more of a metric is usually better, 'max', or less, 'min': 'validation/loss' -> 'min'."""
    return 'min' if _LOWER_IS_BETTER.search(name.rpartition('/')[2]) else 'max'
