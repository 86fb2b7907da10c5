"""Reading JPEGs with a random-resized-crop: ours, other ways to do it in Python, and tf.data.

    python benchmarks/decode.py

500 JPEGs of 400x300 with smooth noise like a photo's (quality 90, about 34 kB) become 224x224 uint8, all ways with the
same crops, from files to batches of 50 on all cores. Ours are the source of a folder, read by threads and by processes,
and of the array_record that `launch.py prepare` makes of it. tf.data decodes the crop alone
(tf.image.decode_and_crop_jpeg) and resizes bilinear, once to float32 and once to uint8. Rounds alternate. Prints JSON
lines: medians in images/s of wall time, the same per core of processor time (which other work on the machine hardly
changes), and the median of each round's ratio to the faster tf.data.
"""

import argparse
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from folder_input import processor_seconds

import launch  # noqa: F401  a checkout becomes the package `practicum`
from practicum.common.tensorflow import import_tensorflow
from practicum.training import process

process.prepare()
tf = import_tensorflow()

import cv2
import numpy as np
import simplejpeg
from PIL import Image  # noqa: E402

from practicum.input_pipeline import jpeg
from practicum.input_pipeline.record_files import convert
from practicum.input_pipeline.source import Source
from practicum.input_pipeline.sources import open_split
from practicum.training.defaults import base

IMAGES = 500
BATCH = 50
HEIGHT, WIDTH, SIDE = 300, 400, 224
AREA = (0.08, 1.0)
SIZE = (SIDE, SIDE)


def config(name: str, **fields):
    """Returns config.data and config.image."""
    found = base()
    found.data.update(source='folder', name=name, memory_limit_mb=0, random_resized_crop=AREA)
    found.data.update(**fields)
    found.image.update(size=SIZE, channels=3)
    return found.data, found.image


def opened(name: str, **fields) -> Source:
    """Opens the training split of a config."""
    return open_split(*config(name, **fields), 'train', training=True)


def photo(generator: np.random.Generator) -> bytes:
    """Returns a JPEG of noise that is smooth at four scales, as photographs are."""
    picture = np.full((HEIGHT, WIDTH, 3), 128.0)
    for columns, strength in ((4, 60), (16, 40), (60, 20), (200, 8)):
        noise = generator.normal(size=(columns * HEIGHT // WIDTH, columns, 3)).astype(np.float32)
        picture += strength * cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    file = io.BytesIO()
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(file, 'JPEG', quality=90)
    return file.getvalue()


def pillow(path: Path, window: tuple[int, ...]) -> np.ndarray:
    """Pillow alone: resize(box=...)."""
    top, left, height, width = window
    with Image.open(path) as image:
        return np.asarray(image.resize(SIZE[::-1], Image.Resampling.BILINEAR, box=(left, top, left + width,
                                                                                   top + height)))


def pillow_cv2(path: Path, window: tuple[int, ...]) -> np.ndarray:
    """Pillow decodes, OpenCV resizes."""
    top, left, height, width = window
    with Image.open(path) as image:
        return cv2.resize(np.asarray(image)[top:top + height, left:left + width], SIZE[::-1])


def simplejpeg_pillow(path: Path, window: tuple[int, ...]) -> np.ndarray:
    """simplejpeg decodes, Pillow resizes."""
    top, left, height, width = window
    part = simplejpeg.decode_jpeg(path.read_bytes())[top:top + height, left:left + width]
    return np.asarray(Image.fromarray(part).resize(SIZE[::-1], Image.Resampling.BILINEAR))


def tensorflow_eager(path: Path, window: tuple[int, ...]) -> np.ndarray:
    """TensorFlow's fused decoding, called image by image."""
    part = tf.raw_ops.DecodeAndCropJpeg(contents=path.read_bytes(), crop_window=window, channels=3)
    resized = tf.raw_ops.ResizeBilinear(images=part[None], size=SIZE, half_pixel_centers=True)
    return tf.cast(tf.round(resized[0]), tf.uint8).numpy()


def fused(path: tf.Tensor, window: tf.Tensor, to_uint8: bool) -> tf.Tensor:
    """TensorFlow's fused decoding inside a graph."""
    resized = tf.image.resize(tf.image.decode_and_crop_jpeg(tf.io.read_file(path), window, channels=3), SIZE)
    return tf.cast(tf.round(resized), tf.uint8) if to_uint8 else resized


@tf.function(input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([None, 4], tf.int32)])
def tensorflow_batch(paths: tf.Tensor, windows: tf.Tensor) -> tf.Tensor:
    """A whole batch in one tf.function."""
    return tf.map_fn(lambda pair: fused(*pair, True), (paths, windows), parallel_iterations=4,
                     fn_output_signature=tf.TensorSpec((*SIZE, 3), tf.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=11)
    rounds = parser.parse_args().rounds
    generator = np.random.default_rng(0)
    draws = generator.random((IMAGES, 4))
    windows = np.array([jpeg.crop_window(HEIGHT, WIDTH, numbers, AREA) for numbers in draws], np.int32)
    workers = len(os.sched_getaffinity(0))
    batches = [slice(i, i + BATCH) for i in range(0, IMAGES, BATCH)]

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(workers) as pool:
        os.environ['PRACTICUM_CACHE'] = f'{folder}/cache'
        for i in range(IMAGES):
            file = Path(folder, 'images', 'train', ('even', 'odd')[i % 2], f'{i}.jpg')
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(photo(generator))
        source, in_processes = (opened(f'{folder}/images', processes=count) for count in (0, workers))
        convert(*config(f'{folder}/images'), ['train'], Path(folder), 'records')
        records = opened('records', source='tfds', data_dir=folder)
        paths = [os.path.join(folder, 'images', 'train', described['file'])
                 for described in source.describe(np.arange(IMAGES))]
        files = list(map(Path, paths))

        def ours(read: Source) -> Callable:
            return lambda rows: read.read(np.arange(IMAGES)[rows], draws[rows])['image']

        def one_by_one(way: Callable) -> Callable:
            return lambda rows: np.stack([way(files[i], tuple(windows[i])) for i in range(IMAGES)[rows]])

        in_threads = {'ours': ours(source), 'ours_in_processes': ours(in_processes), 'ours_array_record': ours(records),
                      'tf_function_of_a_batch': lambda rows: tensorflow_batch(
            tf.constant(paths[rows]), windows[rows]).numpy()}
        in_threads |= {way.__name__: one_by_one(way) for way in (pillow, pillow_cv2, simplejpeg_pillow,
                                                                 tensorflow_eager)}
        ways = {name: lambda way=way: list(pool.map(way, batches)) for name, way in in_threads.items()}
        for name, to_uint8 in (('tf_data_float32', False), ('tf_data_uint8', True)):
            pipeline = tf.data.Dataset.from_tensor_slices((paths, windows)).map(
                lambda path, window, to_uint8=to_uint8: fused(path, window, to_uint8),
                num_parallel_calls=workers).batch(BATCH).prefetch(2)
            ways[name] = lambda pipeline=pipeline: list(pipeline)

        wall: dict[str, list[float]] = {name: [] for name in ways}
        processor: dict[str, list[float]] = {name: [] for name in ways}
        results = {name: run() for name, run in ways.items()}  # the first time is not counted
        for _ in range(rounds):
            for name, run in ways.items():
                began, began_processor = time.perf_counter(), processor_seconds()
                run()
                wall[name].append(IMAGES / (time.perf_counter() - began))
                processor[name].append(IMAGES / (processor_seconds() - began_processor))

    reference = np.concatenate([np.asarray(batch, np.float32) for batch in results['tf_data_float32']])
    for name in ways:
        pictures = np.concatenate([np.asarray(batch, np.float32) for batch in results[name]])
        print(json.dumps({
            'way': name, 'cores': workers, 'images_per_second': round(statistics.median(wall[name])),
            'per_core_of_processor_time': round(statistics.median(processor[name])),
            'wall_ratio_to_tf_data': ratio(wall, name), 'processor_ratio_to_tf_data': ratio(processor, name),
            'mean_grey_levels_from_tf_data': round(float(np.abs(pictures - reference).mean()), 2)}))


def ratio(rates: dict[str, list[float]], name: str) -> float:
    """Returns the median over rounds of a way's rate divided by that of the faster tf.data."""
    best = map(max, rates['tf_data_float32'], rates['tf_data_uint8'])
    return round(statistics.median(rate / other for rate, other in zip(rates[name], best)), 2)


if __name__ == '__main__':
    main()
