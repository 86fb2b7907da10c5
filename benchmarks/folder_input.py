"""What a folder of ImageNet's size costs: its start, its memory, and each image that is read from it.

    python benchmarks/folder_input.py --folder FOLDER                      # 200,000 files
    python benchmarks/folder_input.py --folder OTHER --links 1280000       # as many names, of hard links

Makes the files if the folder is not there: JPEGs of 64x64 with smooth noise (quality 75, about 1.5 kB) in 1,000 class
folders, of 1,000 different contents. Every measurement is a process of its own. Prints JSON lines; figures are of
processor time, children included, since other work on the machine hardly changes it:

  start        open the training split, with an empty cache and later with a full one; the largest memory of the process
               before and after, in MB
  together     four processes start at once with an empty cache: what all of them took
  read         microseconds per image: whole ones and random parts, by threads, by processes and by tf.data, from the
               folder and from array_record, in turns; medians of the rounds
  prepare      microseconds per image of conversion to array_record
"""

import argparse
import io
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np

import launch  # noqa: F401  a checkout becomes the package `practicum`

CLASSES, CONTENTS, SIDE = 1000, 1000, 64
AREA = (0.08, 1.0)
BATCH, BATCHES, ROUNDS = 128, 40, 7
CORES = len(os.sched_getaffinity(0))


def make(folder: Path, files: int, links: bool) -> None:
    """Writes the files, or links each content's first file."""
    import cv2
    from PIL import Image
    generator, contents = np.random.default_rng(0), []
    for _ in range(CONTENTS):
        picture = np.full((SIDE, SIDE, 3), 128.0)
        for columns, strength in ((4, 60), (16, 30)):
            noise = generator.normal(size=(columns, columns, 3)).astype(np.float32)
            picture += strength * cv2.resize(noise, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        file = io.BytesIO()
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(file, 'JPEG', quality=75)
        contents.append(file.getvalue())
    first: dict[int, Path] = {}
    for label in range(CLASSES):
        here = folder / 'train' / f'n{label:08}'
        here.mkdir(parents=True)
        for number in range(files // CLASSES):
            path, content = here / f'n{label:08}_{number}.JPEG', (label + number) % CONTENTS
            if links and content in first:
                os.link(first[content], path)
            else:
                path.write_bytes(contents[content])
                first[content] = path


def config(folder: str, **fields):
    """Returns config.data and config.image."""
    from practicum.training.defaults import base
    found = base()
    found.data.update(source='folder', name=folder, memory_limit_mb=0, **fields)
    found.image.update(size=(SIDE, SIDE), channels=3)
    return found.data, found.image


def processor_seconds() -> float:
    """Returns the processor time of this process and of its children, running ones too."""
    tick = os.sysconf('SC_CLK_TCK')
    found = time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    for path in Path('/proc').glob('[0-9]*/stat'):
        try:
            fields = path.read_text().rpartition(')')[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[1]) == os.getpid():
            found += (int(fields[11]) + int(fields[12])) / tick
    return found


def peak_mb() -> int:
    """Returns the largest memory that this process ever had."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def start(folder: str) -> dict:
    """Opens the training split in this process."""
    from practicum.input_pipeline import sources
    data, image = config(folder)
    began, before = time.process_time(), peak_mb()
    source = sources.open_split(data, image, 'train', training=True)
    return {'files': len(source), 'processor_seconds': round(time.process_time() - began, 2), 'peak_mb': peak_mb(),
            'peak_mb_before': before}


def read(folder: str, records: str) -> dict:
    """Reads batches in all ways in turns; microseconds of processor time per image."""
    from practicum.common.tensorflow import import_tensorflow
    from practicum.input_pipeline import sources
    from practicum.input_pipeline.batches import TrainBatches, stream
    ways = {}

    def ours(way: str, **fields) -> None:
        data, image = config(folder)
        data.update(**fields)
        source = sources.open_split(data, image, 'train', training=True)
        batches = TrainBatches(source, BATCH, seed=0)

        def run(number: int) -> None:
            for _ in stream(batches, range(BATCHES * number, BATCHES * (number + 1)), source=source):
                pass
        ways[way] = run

    for prefix, fields in (('whole', {}), ('crops', {'random_resized_crop': AREA})):
        ours(f'{prefix}, threads', **fields)
        ours(f'{prefix}, {CORES} processes', processes=CORES, **fields)
        if records:
            ours(f'{prefix}, array_record', source='tfds', name='images', data_dir=records, **fields)
    tf = import_tensorflow()
    files = tf.data.Dataset.list_files(f'{folder}/train/n0000000*/*.JPEG', seed=0)
    decoded = files.map(lambda path: tf.io.decode_jpeg(tf.io.read_file(path), channels=3), num_parallel_calls=CORES)
    pipeline = iter(decoded.repeat().batch(BATCH).prefetch(2))

    def tf_data(_) -> None:
        for _ in range(BATCHES):
            next(pipeline)
    ways['whole, tf.data'] = tf_data
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS + 1):  # the first is not counted
        for name, run in ways.items():
            began = processor_seconds()
            run(number)
            times[name].append(1e6 * (processor_seconds() - began) / (BATCH * BATCHES))
    return {name: round(statistics.median(found[1:])) for name, found in times.items()}


def prepare(folder: str, records: str) -> dict:
    """Converts the folder to array_record."""
    from practicum.input_pipeline import record_files
    data, image = config(folder)
    began = time.process_time()
    made = record_files.convert(data, image, ('train',), Path(records), 'images', shard_mb=64)
    return {'microseconds_per_image': round(1e6 * (time.process_time() - began) / len(list(
        Path(folder, 'train').glob('*/*')))), 'files': len(list(made.glob('*.array_record-*')))}


def child(stage: str, *args: object, **environment: object) -> subprocess.Popen:
    """Starts a measurement in a process of its own."""
    return subprocess.Popen([sys.executable, __file__, '--stage', stage, *map(str, args)], stdout=subprocess.PIPE,
                            text=True, env={**os.environ, **{name: str(value) for name, value in environment.items()}})


def answer(process: subprocess.Popen) -> dict:
    """Returns what it measured."""
    return json.loads(process.communicate()[0].splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--folder', type=Path, help='of the files, which are made if it is not there')
    parser.add_argument('--files', type=int, default=200_000)
    parser.add_argument('--links', type=int, default=0, help='so many names of hard links; only starts are measured')
    parser.add_argument('--stage', nargs='+', help='one measurement in this process')
    args = parser.parse_args()
    if args.stage:
        print(json.dumps(globals()[args.stage[0]](*args.stage[1:])))
        return
    if not args.folder.exists():
        make(args.folder, args.links or args.files, bool(args.links))
    with tempfile.TemporaryDirectory() as scratch:
        cache, records = Path(scratch, 'cache'), Path(scratch, 'records')
        for which in ('first', 'later', 'later', 'later'):
            print(json.dumps({'start': which} | answer(child('start', args.folder, PRACTICUM_CACHE=cache))), flush=True)
        if args.links:
            return
        shutil.rmtree(cache)
        together = [child('start', args.folder, PRACTICUM_CACHE=cache) for _ in range(4)]
        seconds = [answer(process)['processor_seconds'] for process in together]
        print(json.dumps({'together': seconds, 'processor_seconds': round(sum(seconds), 2)}), flush=True)
        print(json.dumps({'prepare': answer(child('prepare', args.folder, records, PRACTICUM_CACHE=cache))}),
              flush=True)
        print(json.dumps({'read': answer(child('read', args.folder, records, PRACTICUM_CACHE=cache))}))


if __name__ == '__main__':
    main()
