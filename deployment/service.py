"""An exported model that answers many at once: images are read beside each other, then computed in batches."""

import asyncio
import base64
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np

from ..common.errors import UserError, nearest
from ..input_pipeline import images
from .batcher import Batcher, Full
from .runtime import Model

_SMALL_BYTES = 2**14  # of an image that the worker reads itself: handing it to another thread would take longer
_KEPT_PIXELS = 2**20  # of an image that is kept in memory until the answer is written; larger ones are read again


@dataclasses.dataclass(slots=True)
class ImageRequest:
    """What is asked about an image.

    Attributes:
      content: of its file.
      top_k: how many classes to tell; None: 3, of tasks that tell several.
      invert: look at its negative.
      files: what of `Prediction.files` to add, by name; ('all',) for all.
      example: the image as the model takes it, once it has been read.
      image: the image in its own size, while it is small enough to be kept.
    """
    content: images.Content
    top_k: int | None = None
    invert: bool = False
    files: Sequence[str] = ()
    example: np.ndarray | None = None
    image: np.ndarray | None = None


class Service:
    """A model, its queue and its worker. Methods are called in the event loop's thread.

    Args:
      name, version: that it is asked by.
      model: warmed up.
      queue: how many requests may wait.
      max_pixels: of an image that is read.
      pool: of threads that read large images and write masks.
      on_batch: is told the rows of each batch, in the worker's thread.

    Attributes:
      name, version, model: as given.
      inside: how many requests have come in and not been answered.
    """

    def __init__(self, name: str, version: str, model: Model, *, queue: int, max_pixels: int, pool: Executor,
                 on_batch: Callable[[int], None] = lambda rows: None):
        self.name, self.version, self.model, self.inside = name, version, model, 0
        self._most, self._max_pixels, self._pool, self._on_batch = queue + model.largest, max_pixels, pool, on_batch
        self._scalars = [name for name in model.meta['inputs'] if name != model.feature]
        # Texts of one length fit into one batch, images always do.
        self._has_kinds = bool(self._scalars) or None in model.meta['inputs'][model.feature]['shape'][1:]
        self._batcher = Batcher(self._compute, largest=model.largest, queue=queue, name=f'{name}/{version}')

    @property
    def waiting(self) -> int:
        """How many requests wait for the worker."""
        return self._batcher.waiting

    @property
    def is_full(self) -> bool:
        """Whether the next request is refused."""
        return self.inside >= self._most

    async def predict(self, request: ImageRequest) -> dict[str, Any]:
        """Returns what the model's task says of an image, as JSON has it; the files it writes under 'files'.

        Raises:
          Full: too many wait.
          UserError: the image cannot be read, or the model takes none; TooLarge if that is why. top_k of a task
            that tells no alternatives.
        """
        if self.model.reader is None:
            raise UserError(f'{self.name} looks at no images: POST its inputs, {", ".join(self.model.meta["inputs"])}, '
                            f'to /v2/models/{self.name}/infer')
        if request.top_k is not None and not self.model.task.takes_top_k:
            raise UserError(f"top_k is for classifiers; the task of {self.name} is {self.model.meta['task']['name']}")
        self._enter()
        try:
            if len(request.content) > _SMALL_BYTES:
                await self._in_pool(self._read, request)
            said = await self._batcher.submit(request)
            # Masks and boxes are drawn in the image's own size, which takes its time; the worker goes on meanwhile.
            return await self._in_pool(self._say, request, said) if self.model.task.writes_files else said
        finally:
            self.inside -= 1

    async def infer(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the model's outputs for arrays.

        Raises:
          Full: too many wait.
          UserError: other inputs than the model takes.
        """
        self.model.check(inputs)
        rows = inputs[self.model.feature]
        # What is no row of a batch, such as a seed, is one for all of it.
        kind = (rows.shape[1:], *(inputs[name].tobytes() for name in self._scalars)) if self._has_kinds else None
        self._enter()
        try:
            return await self._batcher.submit(dict(inputs), rows=len(rows), kind=kind)
        finally:
            self.inside -= 1

    async def retire(self) -> None:
        """Ends after all who have come in are answered."""
        while self.inside:
            await asyncio.sleep(0.02)
        await self._batcher.close()

    def _enter(self) -> None:
        if self.is_full:
            raise Full
        self.inside += 1

    async def _in_pool(self, function: Callable, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)

    # --- in other threads ---

    def _read(self, request: ImageRequest) -> None:
        """Reads an image into the size the model takes."""
        image = self._image(request)
        request.example = self.model.reader.fit(image)
        if image.shape[-3] * image.shape[-2] <= _KEPT_PIXELS:
            request.image = image

    def _image(self, request: ImageRequest) -> np.ndarray:
        request.content.max_pixels = self._max_pixels
        image = self.model.reader.read_file(request.content)
        return np.invert(image) if request.invert else image

    def _compute(self, requests: Sequence[ImageRequest | dict]) -> list[Any]:
        """Returns the answers of a batch, or what was wrong with each, in order."""
        answers: list[Any] = [None] * len(requests)
        parts, places = [], []
        for place, request in enumerate(requests):
            if isinstance(request, ImageRequest):
                try:
                    if request.example is None:
                        self._read(request)
                except Exception as error:
                    answers[place] = error
                    continue
                parts.append(request.example[None])
            else:
                parts.append(request[self.model.feature])
            places.append(place)
        if not parts:
            return answers
        scalars = {name: requests[places[0]][name] for name in self._scalars}
        rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
        self._on_batch(len(rows))
        outputs = self.model({self.model.feature: rows, **scalars})
        begin = 0
        for place, part in zip(places, parts):
            own = {name: values[begin:begin + len(part)] for name, values in outputs.items()}
            begin += len(part)
            request = requests[place]
            answers[place] = own
            if isinstance(request, ImageRequest):
                one = {name: values[0] for name, values in own.items()}
                output_name = self.model.task.output_name
                answers[place] = one[output_name] if list(one) == [output_name] else one
                if not self.model.task.writes_files:
                    try:
                        answers[place] = self._say(request, answers[place])
                    except Exception as error:
                        answers[place] = error
        return answers

    def _say(self, request: ImageRequest, output: Any) -> dict[str, Any]:
        """Returns the answer for an image."""
        image = request.image
        if image is None:
            image = self._image(request) if self.model.task.writes_files else request.example
        prediction = self.model.say(output, image, top_k=request.top_k or 3)
        if not request.files:
            return prediction.row
        names = request.files
        if tuple(names) == ('all',) and prediction.files:
            names = list(prediction.files)
        for name in names:
            if name not in prediction.files:
                raise UserError(f'files={name}: {self.name} writes no such file; '
                                + (nearest(name, [*prediction.files, 'all']) if prediction.files else 'it writes none'))
        return prediction.row | {'files': {name: _in_json(prediction.files[name]) for name in names}}


def _in_json(content: np.ndarray | None) -> Any:
    """Returns an image as a PNG in base64, the points of a contour as a list."""
    if content is None or content.dtype != np.uint8:
        return None if content is None else content.tolist()
    if content.ndim == 2:
        content = content[..., None]
    return base64.b64encode(images.to_png(content)).decode()


def warmed_up(path: Any, largest: int) -> Model:
    """Returns the model of a file after it has verified its examples and compiled for all sizes of batches."""
    model = Model(path, largest=largest)
    model.warm_up()
    return model
