"""Exported models, ready to answer: arrays in, arrays out, or images in and what the task says of them out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from .. import tasks
from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError, file_error
from ..inference import arrays
from ..inference.image_reader import ImageReader
from ..input_pipeline import image_search
from ..tasks.prediction import Prediction
from . import artifact, loader, onnx_runtime

Arrays = Mapping[str, np.ndarray]


class Model:
    """An exported model, '.zip' or '.onnx'.

        model = practicum.load_model('digits.zip')
        model.predict('digit.png')                     # [{'file': 'digit.png', 'classes': [...], 'percent': [...]}]
        model({'image': pixels})['logits']             # uint8 [n, 28, 28, 1] -> float32 [n, 10]

    Batches of any size are padded to the next power of two, so that few programs are compiled.

    Args:
      path: of the file.
      largest: batches are divided into parts of at most so many.
      verify: whether its examples must give here what they gave where it was made.

    Attributes:
      path, name: of the file; the name without what it ends in.
      meta: what the file says of itself, see artifact.py.
      largest: as given, or the largest that the model takes.
      task: see tasks/task.py.
      reader: of the images that it takes; None for models of texts and tables.
      feature: name of the input that has a row for each example.

    Raises:
      UserError: no such file, not an exported model, or a damaged one, or one for another platform.
    """

    def __init__(self, path: str | Path, *, largest: int = 64, verify: bool = True):
        if largest < 1:
            raise UserError(f'batches of at most {largest}: it is at least 1')
        self.path = Path(path).expanduser()
        self.name = self.path.stem
        self.meta, self._function = _open(self.path, verify)
        try:
            sizes = self.meta['batch']
            self._sizes = [2 ** power for power in range(largest.bit_length()) if 2 ** power <= largest] \
                if sizes == artifact.ANY else sizes
            self.largest = self._sizes[-1]
            self.feature = next(name for name, of in self.meta['inputs'].items() if of['shape'][:1] == [None])
            self.task = tasks.build(ConfigDict(self.meta['task']), DatasetInfo.from_json(self.meta['data']))
            image = self.meta.get('image')
            self.reader = ImageReader(image, self.meta['data'].get('frames', 1)) if image else None
        except (LookupError, TypeError, AttributeError, StopIteration) as error:
            raise file_error(self.path, f'is damaged: what it says of itself does not fit: {error!r}') from error

    def __repr__(self) -> str:
        return f"<Model {self.meta['experiment']}: step {self.meta['step']:,} in {self.path}>"

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Returns name -> array [n, ...] for inputs by name, [n, ...] as `meta` says.

        Raises:
          UserError: inputs of other names, shapes or types.
        """
        self.check(inputs)
        rows = len(inputs[self.feature])
        if not rows:
            return {name: np.zeros((0, *of['shape'][1:]), of['dtype']) for name, of in self.meta['outputs'].items()}
        parts = [self._padded(inputs, begin, min(begin + self.largest, rows)) for begin in range(0, rows, self.largest)]
        return parts[0] if len(parts) == 1 else {
            name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def lower(self, inputs: Arrays) -> Any:
        """Returns the program for inputs of at most `largest` rows, a jax.stages.Lowered; None: it is not XLA's."""
        lower = getattr(self._function, 'lower', None)
        return lower and lower(self._pad(inputs, 0, len(inputs[self.feature])))

    def _padded(self, inputs: Arrays, begin: int, end: int) -> dict[str, np.ndarray]:
        return {name: values[:end - begin]
                for name, values in self._function(self._pad(inputs, begin, end)).items()}

    def _pad(self, inputs: Arrays, begin: int, end: int) -> dict[str, np.ndarray]:
        size = next(size for size in self._sizes if size >= end - begin)
        missing = size - (end - begin)
        return {name: values if not values.ndim else values[begin:end] if not missing else np.concatenate(
            [values[begin:end], np.zeros((missing, *values.shape[1:]), values.dtype)])
            for name, values in inputs.items()}

    def check(self, inputs: Arrays) -> None:
        """Raises UserError unless inputs have the names, types and shapes that the model takes."""
        known = self.meta['inputs']
        if not isinstance(inputs, Mapping):
            raise UserError(f'{self.name} takes a dict of arrays by name, {", ".join(known)}')
        if set(inputs) != set(known):
            raise UserError(f'{self.name} takes {", ".join(known)}, not {", ".join(map(str, inputs)) or "nothing"}')
        for name, of in known.items():
            shape, values = of['shape'], inputs[name]
            if not isinstance(values, (np.ndarray, np.generic, jax.Array)):
                raise UserError(f'{self.name} takes {name} as an array of numpy, not {type(values).__name__}')
            fits = len(shape) == values.ndim and all(side in (None, own) for side, own in zip(shape, values.shape))
            if str(values.dtype) != of['dtype'] or not fits or any(
                    own < least for own, least in zip(values.shape[1:], of['least'][1:])):
                expected = ', '.join(str(side) if side else 'n' if least == 1 else f'at least {least}'
                                     for side, least in zip(shape, of['least']))
                raise UserError(f"{self.name} takes {name} as {of['dtype']} [{expected}], not {values.dtype} "
                                f'{list(values.shape)}')

    def warm_up(self) -> None:
        """Compiles the programs for all sizes of batches."""
        for size in self._sizes:
            self._function({name: np.zeros(
                [side or (least if axis else size) for axis, (side, least) in enumerate(zip(of['shape'], of['least']))],
                of['dtype']) for name, of in self.meta['inputs'].items()})

    def outputs(self, examples: np.ndarray) -> list[Any]:
        """Returns for each example, [n, ...], what `Task.predict` takes."""
        found = self({self.feature: examples})
        whole = found[self.task.output_name] if list(found) == [self.task.output_name] else found
        return [jax.tree.map(lambda values: values[row], whole) for row in range(len(examples))]

    def say(self, output: Any, image: np.ndarray, metadata: Mapping[str, Any] | None = None, top_k: int = 3
            ) -> Prediction:
        """Returns what the task says of one of `outputs` for an image, [height, width, channels] in its own size."""
        return self.task.predict(output, arrays.as_uint8(image), metadata or {}, top_k)

    def predict(self, inputs: Any, *, top_k: int = 3) -> list[dict[str, Any]]:
        """Predicts images, as `Run.predict` does.

        Args:
          inputs: a path of an image or a folder, or a list of them; or images as arrays, see `arrays.to_images`.
          top_k: how many classes to return of each.

        Raises:
          UserError: inputs that cannot be read, or a model that looks at no images.
        """
        if self.reader is None:
            raise UserError(f'{self.name} looks at no images: call it with {", ".join(self.meta["inputs"])}')
        if top_k < 1:
            raise UserError(f'top_k = {top_k}: it is at least 1')
        rows = []
        for file, image in self._examples(inputs):
            prediction = self.say(self.outputs(self.reader.fit(image)[None])[0], image, top_k=top_k)
            rows.append(({} if file is None else {'file': str(file)}) | prediction.row)
        return rows

    def _examples(self, inputs: Any) -> Iterable[tuple[Path | None, np.ndarray]]:
        paths = [inputs] if isinstance(inputs, (str, Path)) else inputs
        if isinstance(paths, Sequence) and paths and all(isinstance(path, (str, Path)) for path in paths):
            for path in paths:
                for file in image_search.find_images(Path(path).expanduser()):
                    yield file, self.reader.read_file(file)
        else:
            any_range = self.meta['inputs'][self.feature]['dtype'] == 'float32'
            for image in arrays.to_images(inputs, self.reader.channels, self.reader.frames, any_range=any_range):
                yield None, image


def _open(path: Path, verify: bool) -> tuple[dict[str, Any], Callable[[Arrays], Arrays]]:
    """Returns what a file says of itself, and its function."""
    if path.suffix == '.onnx':
        return onnx_runtime.open_model(path, verify)
    meta = artifact.read_meta(path)
    try:
        model, _ = loader.load(path, verify)
    except ValueError as error:
        raise UserError(str(error)) from error
    except (OSError, KeyError) as error:
        raise file_error(path, f'is damaged: {error}') from error
    return meta, _Exported(model)


class _Exported:
    def __init__(self, model: Any):
        self._model = model

    def __call__(self, inputs: Arrays) -> dict[str, np.ndarray]:
        return self._model(**inputs)

    def lower(self, inputs: Arrays) -> Any:
        return self._model.lower(**inputs)
