"""An ONNX model in 8-bit integers: static quantization, and what it costs in accuracy.

Jacob et al. 2018, "Quantization and training of neural networks for efficient integer-arithmetic-only inference". The
ranges of all values are read off some training images. Weights are int8 with a scale for each output channel, values
between layers uint8: the form that VNNI and AMX instructions multiply. The file holds QuantizeLinear and
DequantizeLinear around operations in float32 (QDQ), which a runtime fuses.
"""

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..common.errors import UserError, file_error, nearest, some
from ..inference.image_reader import ImageReader
from ..inference.run import Run
from ..input_pipeline import image_search
from . import onnx_runtime

IMAGES = 100  # that ranges are read off
_BATCH = 8


def quantized(run: Run, model: Any, folder: Path, labelled: Path | None) -> tuple[Any, dict[str, Any]]:
    """Returns a model in int8 and what is known of it.

    Args:
      run: that it was made of, for how images are read, and for the names of classes.
      model: ONNX, float32.
      folder: of training images, in folders or not; IMAGES of them, at equal distances in their sorted list, are read.
      labelled: folder with a folder of images for each class, or None.

    Returns:
      (ONNX model, {'calibration': number of images, 'agreement': share of answers, argmax over the last axis, that are
      those of float32 on these images, 'accuracy': {'float32', 'int8', 'images'} on the labelled ones, if given}).

    Raises:
      UserError: a model of something else than images, or a folder without images that can be read.
    """
    if run.feature != 'image':
        raise UserError(f'--int8 {folder}: {run.workdir} looks at no images')
    reader = ImageReader(run.config.image, run.info.frames)
    labels = None if labelled is None else _labelled(run, labelled)
    found = image_search.find_images(folder)
    found = [found[index] for index in np.unique(np.linspace(0, len(found) - 1, IMAGES).round().astype(int))]
    unreadable: list[str] = []
    examples = [reader.fit(image) for _, image in reader.read_files(found, 'calibration', unreadable)]
    if not examples:
        raise file_error(folder, f'has no image that can be read: {some(unreadable)}')
    for line in unreadable:
        logging.warning('warning: %s', line)
    name = model.graph.input[0].name
    batches = [{name: np.stack(examples[begin:begin + _BATCH])} for begin in range(0, len(examples), _BATCH)]
    result = _quantize(model, batches)
    before, after = (_answers(one) for one in (model, result))
    same = [before(batch) == after(batch) for batch in batches]
    known: dict[str, Any] = {'calibration': len(examples), 'agreement': float(np.concatenate(same).mean())}
    logging.info('int8: calibrated on %d images of %s; %.2f %% of its answers on them are those of float32',
                 len(examples), folder, 100 * known['agreement'])
    if labels is not None:
        known['accuracy'] = _accuracy(reader, labels, name, {'float32': before, 'int8': after})
        accuracy = known['accuracy']
        logging.info('accuracy on %d images of %s: float32 %.2f %%, int8 %.2f %%', accuracy['images'], labelled,
                     100 * accuracy['float32'], 100 * accuracy['int8'])
    return result, known


def _quantize(model: Any, batches: Sequence[Mapping[str, np.ndarray]]) -> Any:
    """Returns the model with ranges read off batches."""
    onnx, _ = onnx_runtime.require()
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self._left = iter(batches)

        def get_next(self):
            return next(self._left, None)

    # Its tools work on files, and tell the root logger what they think of them.
    with tempfile.TemporaryDirectory() as folder, _quiet():
        given, prepared, result = (Path(folder) / f'{name}.onnx' for name in ('given', 'prepared', 'result'))
        onnx.save(model, given)
        quant_pre_process(given, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared, result, Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
            activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8)
        return onnx.load(result)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with np.errstate(invalid='ignore'):
            yield
    finally:
        logger.setLevel(level)


def _answers(model: Any) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    """Returns answers(inputs): the best class of each row, or pixel; of one number, whether it is positive."""
    function = onnx_runtime.function_of(onnx_runtime.start(model.SerializeToString()))

    def answers(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        outputs = next(iter(function(inputs).values()))
        return outputs.argmax(axis=-1) if outputs.shape[-1] > 1 else outputs[..., 0] > 0
    return answers


def _labelled(run: Run, folder: Path) -> list[tuple[Path, int]]:
    """Returns the images in a folder of folders named like the classes, and their classes."""
    if run.config.task.name != 'classification':
        raise UserError(f'--labelled {folder}: it is for classification; the task of {run.workdir} is '
                        f'{run.config.task.name}')
    if not folder.is_dir():
        raise file_error(folder, 'no such folder')
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith('.'))
    for name in classes:
        if name not in run.class_names:
            raise file_error(folder / name, f'is no class of {run.workdir}: {nearest(name, run.class_names)}')
    if not classes:
        raise file_error(folder, f'has no folders of classes, such as {run.class_names[0]}')
    return [(file, run.class_names.index(name)) for name in classes for file in image_search.find_images(folder / name)]


def _accuracy(reader: ImageReader, labels: Sequence[tuple[Path, int]], name: str,
              models: Mapping[str, Callable[[Mapping[str, np.ndarray]], np.ndarray]]) -> dict[str, Any]:
    """Returns the accuracy of several models on labelled images, and how many could be read."""
    expected = dict(labels)
    right = dict.fromkeys(models, 0)
    count = 0
    unreadable: list[str] = []
    waiting: list[tuple[np.ndarray, int]] = []

    def finish() -> None:
        batch, truth = (np.stack(part) for part in zip(*waiting))
        for kind, answers in models.items():
            right[kind] += int((answers({name: batch}) == truth).sum())
        waiting.clear()

    for file, image in reader.read_files(list(expected), 'accuracy', unreadable):
        waiting.append((reader.fit(image), expected[file]))
        count += 1
        if len(waiting) == _BATCH:
            finish()
    if waiting:
        finish()
    for line in unreadable:
        logging.warning('warning: %s', line)
    if not count:
        raise UserError(f'--labelled: none of {len(expected)} images can be read: {some(unreadable)}')
    return {kind: number / count for kind, number in right.items()} | {'images': count}
