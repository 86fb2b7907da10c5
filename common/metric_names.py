"""What the name of a metric says of it."""

import re

# Names of classes may follow these: 'ap50_glossy' has nothing to do with a loss.
_HIGHER_IS_BETTER = re.compile(r'(ap\d*|ar\d*|dice|iou)(_|$)')
_LOWER_IS_BETTER = re.compile('loss|perplexity|error|bits_per|distance|hd95|apd|_mm$')


def usual_mode(name: str) -> str:
    """Returns whether more of a metric is usually better, 'max', or less, 'min': 'validation/loss' -> 'min'."""
    name = name.rpartition('/')[2]
    return 'min' if _LOWER_IS_BETTER.search(name) and not _HIGHER_IS_BETTER.match(name) else 'max'
