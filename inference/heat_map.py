"""Where in an image a classifier sees a class: its answer for every window, as a heat map and as boxes.

The fast way makes the network fully convolutional (models/net_surgery.py) and looks at the image once; the slow way
cuts the windows out and classifies one batch of them after the other. Both give the same windows in the same order.
"""

import dataclasses
import functools
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from .. import models
from ..common import box_overlaps
from ..common.errors import UserError, nearest
from ..input_pipeline import images, preprocessing
from ..models.net_surgery import window_stride
from ..training import array_paths, transfer
from ..training.step import apply_model

_PROBABILITIES = {'classification': functools.partial(jax.nn.softmax, axis=-1), 'multi_label': jax.nn.sigmoid}
_PART = 2048  # pixels: a longer side is looked at in parts, so that memory does not grow with the image
_MOST_BOXES = 100
_AGREE = 0.5  # overlap of windows that say where an object is together


@dataclasses.dataclass(frozen=True)
class HeatMap:
    """What a classifier says of the windows of an image.

    Attributes:
      logits: float32 [rows, columns, classes]. Window (row, column) has its left top corner at (row, column) * stride.
      probabilities: the same as probabilities.
      class_names: of the last axis.
      window: height and width of a window, in pixels of the scaled image.
      stride: between windows, in pixels of the scaled image.
      scale: height and width of the scaled image as factors of the image's own.
      size: the image's own height and width.
      seconds: that the network took, without compiling.
    """
    logits: np.ndarray
    probabilities: np.ndarray
    class_names: tuple[str, ...]
    window: tuple[int, int]
    stride: int
    scale: tuple[float, float]
    size: tuple[int, int]
    seconds: float

    def index(self, class_name: str | None = None) -> int:
        """Returns a class's place; without a name that of the class with the highest mean probability.

        Raises:
          UserError: no such class.
        """
        if class_name is None:
            return int(self.probabilities.mean(axis=(0, 1)).argmax())
        if class_name not in self.class_names:
            raise UserError(f'no class {class_name!r}; {nearest(class_name, list(self.class_names))}')
        return self.class_names.index(class_name)

    def corners(self) -> np.ndarray:
        """Returns left, top, right, bottom of every window in pixels of the image, float64 [rows, columns, 4].

        They end at the image's edges, beyond which windows may reach.
        """
        sides = []
        for cells, window, scale, side in zip(self.logits.shape, self.window, self.scale, self.size):
            begin = self.stride * np.arange(cells) / scale
            sides.append((begin, np.minimum(begin + window / scale, side)))
        (top, bottom), (left, right) = sides
        rows, columns = self.logits.shape[:2]
        return np.stack([np.broadcast_to(values, (rows, columns)) for values in
                         (left, top[:, None], right, bottom[:, None])], axis=-1)

    def enlarged(self, class_name: str | None = None) -> np.ndarray:
        """Returns the probability of a class at every pixel of the image, float32 [height, width].

        Interpolated between the centres of windows; beyond the outermost centres it is theirs.
        """
        values = self.probabilities[..., self.index(class_name)]
        for axis in (0, 1):
            pixels = (np.arange(self.size[axis]) + 0.5) * self.scale[axis]
            cells = np.clip((pixels - self.window[axis] / 2) / self.stride, 0, values.shape[axis] - 1)
            before = np.minimum(cells.astype(int), max(0, values.shape[axis] - 2))
            share = (cells - before).astype(np.float32).reshape((-1, 1) if axis == 0 else (1, -1))
            after = np.minimum(before + 1, values.shape[axis] - 1)
            values = (1 - share) * values.take(before, axis) + share * values.take(after, axis)
        return values


def find_boxes(maps: Sequence[HeatMap], class_name: str, *, threshold: float = 0.5, overlap: float = 0.3
               ) -> list[dict[str, Any]]:
    """Returns where windows show a class, the likeliest first.

    A window that overlaps with a likelier one is left out: non-maximum suppression. In place of each of the others
    comes the mean of all windows that overlap with it by half, weighted with their probabilities, which lies between
    the places and sizes that were looked at (Gidaris and Komodakis 2015, "Object detection via a multi-region and
    semantic segmentation-aware CNN model", section 4).

    Args:
      maps: of one image, at one or more scales.
      class_name: of the objects that are looked for.
      threshold: probability that a window needs.
      overlap: intersection over union with a likelier window, from which on a window is left out.

    Returns:
      Up to 100 of {'class', 'percent', 'left', 'top', 'right', 'bottom'}, in pixels of the image: 0 is the left edge of
      the first pixel, the width is the right edge of the last.
    """
    import cv2
    corners = np.concatenate([found.corners().reshape(-1, 4) for found in maps])
    scores = np.concatenate([found.probabilities[..., found.index(class_name)].ravel() for found in maps])
    sizes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    kept = np.asarray(cv2.dnn.NMSBoxes(sizes.tolist(), scores.tolist(), threshold, overlap), int)[:_MOST_BOXES]
    boxes = []
    for i in kept:
        voters = box_overlaps.iou(corners[i:i + 1], corners)[0] >= _AGREE
        box = np.average(corners[voters], axis=0, weights=scores[voters])
        boxes.append({'class': class_name, 'percent': 100 * float(scores[i]),
                      **dict(zip(('left', 'top', 'right', 'bottom'), map(float, box)))})
    return boxes


class HeatMapMaker:
    """Makes heat maps of images of any size.

    Args:
      run: of a classifier of images, see run.py.
      windows: whether windows are cut out and classified one batch after the other, instead of net surgery.
      stride: pixels between windows, where they are cut out; 0 for that of the network.

    Attributes:
      window: height and width of windows.
      stride: pixels between them.

    Raises:
      UserError: the run is no classifier of images, or its network cannot be made convolutional.
    """

    def __init__(self, run: Any, *, windows: bool = False, stride: int = 0):
        run.check_images()
        self._network = run.network()
        name = run.config.task.name
        if name not in _PROBABILITIES:
            raise UserError(f'{run.workdir}: --heat_map is for classifiers of images, the task of this run is {name}')
        if stride < 0 or stride and not windows:
            raise UserError(f'--stride {stride}: ' + ('it must be at least 1' if windows else
                                                      'that of a heat map is the network\'s; choose one for --windows'))
        self._run, self._windows = run, windows
        self.window = self._network.size
        self._model = self._variables = None
        if hasattr(run.model, 'window'):
            self._operate()
        elif not windows or not stride:
            raise UserError(f'{run.config.model.name} is not made of convolutions: --heat_map with --windows and '
                            '--stride looks at one window after the other')
        self.stride = stride or window_stride(self._model, run.config.image.channels)
        self._compiled: dict[tuple[int, ...], Any] = {}

    def differs(self) -> str:
        """Returns why windows by themselves may get other answers than in the heat map; '' if they get the same."""
        config, reasons = self._run.config, []
        if getattr(self._run.model, 'padding', 'SAME') != 'VALID':
            reasons.append(f'{config.model.name} pads its convolutions'
                           + (" (config.model.padding is not 'VALID')" if hasattr(self._run.model, 'padding') else ''))
        if config.image.local_mean:
            reasons.append('config.image.local_mean looks beyond a window')
        for field in ('samplewise_center', 'samplewise_std', 'zca_epsilon'):
            if config.image[field]:
                reasons.append(f'config.image.{field} is about whole windows')
        return ' and '.join(reasons)

    def __call__(self, image: np.ndarray, scale: float = 1.0) -> HeatMap:
        """Returns the heat map of an image.

        Args:
          image: uint8, uint16 or float32 [height, width, channels], of any size. Beyond its right and lower edge, what
            windows need is filled up with its last pixels.
          scale: by which it is resized before.
        """
        if not 0 < scale <= 100:
            raise UserError(f'--scale {scale:g}: it must be above 0 and at most 100')
        own = image.shape[:2]
        size = tuple(max(1, round(side * scale)) for side in own)
        if size != own:
            image = images.resize(image, size)
        grid = tuple(-(-max(0, side - window) // self.stride) + 1 for side, window in zip(size, self.window))
        needed = [self._pixels(cells, window) for cells, window in zip(grid, self.window)]
        image = np.pad(image, [*((0, wanted - side) for wanted, side in zip(needed, size)), (0, 0)], mode='edge')
        logits, seconds = (self._classify if self._windows else self._convolve)(image, grid)
        probabilities = np.asarray(_PROBABILITIES[self._run.config.task.name](logits))
        return HeatMap(logits, probabilities, self._run.class_names, self.window, self.stride,
                       tuple(scaled / side for scaled, side in zip(size, own)), own, seconds)

    def _operate(self) -> None:
        """Makes the run's network fully convolutional."""
        run, size = self._run, self.window
        self._model = models.build({**run.config.model, 'window': size}, precision=run.config.precision,
                                   **run.task.model_fields())
        images_of_one = jax.ShapeDtypeStruct((1, *size, run.config.image.channels), np.float32)
        key = jax.random.key(0)
        shapes = jax.eval_shape(lambda images: self._model.init({'params': key, 'dropout': key}, images, train=False),
                                images_of_one)
        shapes = {name: shapes[name] for name in run.variables if name in shapes}
        arrays, _ = transfer.assign(array_paths.flatten(shapes), array_paths.flatten(dict(run.variables)))
        self._variables = array_paths.fill(shapes, arrays)
        prepare = preprocessing.build(run.config.image, info=run.info)
        apply = apply_model(self._model, run.task)
        self._apply = jax.jit(lambda variables, batch: apply(variables, prepare(batch, None), train=False))

    def _pixels(self, cells: int, window: int) -> int:
        """How many pixels so many windows in a row take."""
        return self.stride * (cells - 1) + window

    def _convolve(self, image: np.ndarray, grid: tuple[int, int]) -> tuple[np.ndarray, float]:
        logits = np.empty((*grid, len(self._run.class_names)), np.float32)
        most = [max(1, (_PART - window) // self.stride + 1) for window in self.window]
        part = [min(pair) for pair in zip(grid, most)]
        sides = [self._pixels(cells, window) for cells, window in zip(part, self.window)]
        if tuple(sides) not in self._compiled:
            shape = jax.ShapeDtypeStruct((1, *sides, image.shape[-1]), image.dtype)
            self._compiled[tuple(sides)] = self._apply.lower(self._variables, {'image': shape}).compile()
        apply = self._compiled[tuple(sides)]
        begun = time.perf_counter()
        # The last part of a row or column begins earlier, so that all are of one size.
        for row, column in ((min(row, grid[0] - part[0]), min(column, grid[1] - part[1]))
                            for row in range(0, grid[0], part[0]) for column in range(0, grid[1], part[1])):
            top, left = row * self.stride, column * self.stride
            pixels = image[None, top : top + sides[0], left : left + sides[1]]
            logits[row : row + part[0], column : column + part[1]] = apply(self._variables, {'image': pixels})[0]
        return logits, time.perf_counter() - begun

    def _classify(self, image: np.ndarray, grid: tuple[int, int]) -> tuple[np.ndarray, float]:
        windows = np.lib.stride_tricks.sliding_window_view(image, self.window, (0, 1))
        windows = np.moveaxis(windows[:: self.stride, :: self.stride], 2, -1)
        batch = self._network.batch_size
        self._network.outputs(np.ascontiguousarray(windows[0, :1]))  # compiled before the clock runs
        begun = time.perf_counter()
        places, logits = list(np.ndindex(*grid)), []
        for first in range(0, len(places), batch):
            logits += self._network.outputs(np.stack([windows[place] for place in places[first : first + batch]]))
        return np.stack(logits).reshape(*grid, -1), time.perf_counter() - begun
