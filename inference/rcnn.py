"""R-CNN on whole images: regions are found and cut out, go through the network, and become objects."""

from typing import Any

import jax
import numpy as np

from ..input_pipeline import proposals
from ..training.step import apply_model
from .network import Network


class RegionNetwork(Network):
    """Looks at all regions of an image, a fixed number of them at a time.

    Args:
      run: of the task region_detection.
    """

    def __init__(self, run: Any):
        whole = apply_model(run.model, run.task)
        super().__init__(run, lambda variables, batch: run.task.decode(whole(variables, batch, train=False)))
        self._regions, self._image = run.config.data.regions, run.config.image
        self._combine = run.task.combine
        self.size = tuple(self._regions.image_size)

    def outputs(self, examples: np.ndarray) -> list[Any]:
        """Returns for each image, uint8 [n, *size, channels], what `RegionDetection.combine` does."""
        return [self._find(image) for image in examples]

    def _find(self, image: np.ndarray) -> dict[str, np.ndarray]:
        regions = proposals.find(image, self._regions)
        cut = proposals.cut_out(image, regions, tuple(self._image.size), self._regions.context, self._image.mean)
        parts = [cut[begin:begin + self.batch_size] for begin in range(0, len(cut), self.batch_size)]
        started = [self.start(part) for part in parts]  # all of them, before any is waited for
        found = jax.tree.map(lambda *values: np.concatenate(values)[:len(cut)], *[
            jax.tree.map(np.asarray, one) for one in started])
        return self._combine(regions, found)
