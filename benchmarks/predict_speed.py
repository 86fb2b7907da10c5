"""How many images a second a trained run predicts: the network alone, and `launch.py predict` as a whole.

    python benchmarks/predict_speed.py WORKDIR PICTURES...

The whole includes reading and resizing the files (decoded DICOM for a slice of MRI) and, for segmentation, writing
mask, overlay and contour of each. Start-up and compilation are left out. Prints medians as JSON.
"""

import argparse
import contextlib
import io
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import launch  # noqa: F401  a checkout becomes the package `practicum`


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('workdir', type=Path)
    parser.add_argument('inputs', nargs='+')
    parser.add_argument('--rounds', type=int, default=5)
    args = parser.parse_args()

    import numpy as np

    from practicum.inference import prediction
    from practicum.inference.run import Run
    from practicum.input_pipeline import image_search
    from practicum.training import process
    process.prepare()
    run = Run(args.workdir)
    predictor = run.network()
    files = [file for text in args.inputs for file in image_search.find_images(Path(text))]
    batch = np.zeros((predictor.batch_size, *predictor.size, predictor.channels), np.uint8)
    predictor.outputs(batch)
    network = []
    for _ in range(4 * args.rounds):
        begin = time.perf_counter()
        predictor.outputs(batch)
        network.append(time.perf_counter() - begin)
    whole = []
    # The run is read and compiled again by every call, as a user's call does it; that is taken off.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        for _ in range(args.rounds):
            seconds = []
            for inputs in (files[:predictor.batch_size], files):
                begin = time.perf_counter()
                output = Path(folder) / 'masks' if run.task.writes_files else Path(folder) / 'out.csv'
                prediction.predict_files(Run(args.workdir), [str(file) for file in inputs], output=output)
                seconds.append(time.perf_counter() - begin)
            whole.append((seconds[1] - seconds[0]) / (len(files) - predictor.batch_size))
    print(json.dumps({'run': args.workdir.name, 'batch': predictor.batch_size, 'images': len(files),
                      'network images/s': round(predictor.batch_size / statistics.median(network), 1),
                      'predict images/s': round(1 / statistics.median(whole), 1)}))


if __name__ == '__main__':
    main()
