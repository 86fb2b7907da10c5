"""Images by what a network sees in them: `launch.py embed` writes features, `neighbors` finds the most similar."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..common.console import ProgressLog, format_metric, format_seconds
from ..common.errors import UserError, file_error, nearest, printable, some
from ..common.files import digest, write_json
from ..input_pipeline import image_search, images
from ..models.stages import endpoints
from ..training import array_paths, checkpoints, forward
from ..training.parallel import one_late
from . import contact_sheet
from .formats import format_csv
from .image_index import Index, K, nearest_others, precision
from .network import Network
from .prediction import find_image_files, report_unreadable
from .run import Run

POOLS = ('mean', 'max', 'flatten')
_SHEET_ROWS, _SHEET_NEIGHBORS = 40, 20


class FeatureExtractor:
    """What a run's network makes of images at one of its endpoints, as one vector of length 1 for each.

    Works with any checkpoint whose model is made of stages, also with a body that has no head.

    Args:
      run: a trained run, or what `launch.py import` wrote.
      endpoint: of the model; '' for the code of an autoencoder, of others for the last before the logits.
      pool: how a feature map [height, width, channels] becomes a vector: its 'mean' or 'max' over the pixels, or all of
        it, 'flatten'.

    Attributes:
      endpoint: the one it takes.
      dimension: length of the vectors.
      weights: a checksum of the weights and of all else that decides the features.

    Raises:
      UserError: a run that does not look at images, no such endpoint, or one that the checkpoint has no weights for.
    """

    def __init__(self, run: Run, *, endpoint: str = '', pool: str = 'mean'):
        if pool not in POOLS:
            raise UserError(f'--pool {pool}; {nearest(pool, POOLS)}')
        run.check_images()
        if run.info.vocabulary is not None:
            raise UserError(f'{run.workdir} is a network that writes: embed takes one that looks at images alone, as '
                            'does the run its body came from')
        name, image = run.config.model.name, run.config.image
        example = jnp.zeros((1, *image.size, image.channels))
        known = endpoints(run.model, example)
        if not known:
            raise UserError(f'{run.workdir}: {name} has no endpoints to take features at, as those of resnet or '
                            'alexnet')
        if endpoint and endpoint not in known:
            raise UserError(f'--features {endpoint}: {name} has no such endpoint; {nearest(endpoint, known)}')
        usual = 'code' if 'code' in known else [name for name in known if name != 'logits'][-1]
        self.run, self.endpoint = run, endpoint or usual
        variables = _needed(run.variables, forward.body_shapes(run.model, (example,), self.endpoint),
                            f'--features {self.endpoint}: {run.workdir}')
        body = forward.apply_body(run.model, self.endpoint)

        def apply(variables: Mapping[str, Any], batch: Mapping[str, jax.Array]) -> jax.Array:
            return _normalize(_pool(body(variables, batch), pool))
        self._network = Network(run, apply, variables=variables)
        self.dimension = jax.eval_shape(apply, variables, {'image': example}).shape[1]
        decides = [run.meta['config'].get(name) for name in ('model', 'precision', 'image')]
        self.weights = digest([*decides, run.meta['checksums']['variables']])

    def extract(self, files: Collection[Path], unreadable: list[str]) -> tuple[list[Path], list[str], np.ndarray]:
        """Computes the features of image files; what cannot be read is added to `unreadable`.

        Returns:
          The files that could be read, checksums of their content, and features, float32 [files, dimension].

        Raises:
          UserError: the features do not fit into memory, or are not finite.
        """
        _check_memory(len(files), self.dimension)
        network = self._network
        features = np.empty((len(files), self.dimension), np.float32)
        read: list[Path] = []
        digests: list[str] = []

        def batches() -> Iterator[tuple[jax.Array, int]]:
            waiting: list[np.ndarray] = []
            for file, image in network.read_files(files, 'computing features', unreadable):
                try:
                    digests.append(_content(file))
                except OSError as error:
                    unreadable.append(str(file_error(file, error.strerror)))
                    continue
                read.append(file)
                waiting.append(network.fit(image))
                if len(waiting) == network.batch_size:
                    yield network.start(np.stack(waiting)), len(waiting)
                    waiting = []
            if waiting:
                yield network.start(np.stack(waiting)), len(waiting)

        done = 0
        for values, count in one_late(batches()):
            features[done:done + count] = np.asarray(values)[:count]
            done += count
        features = features[:done]
        finite = np.isfinite(features).all(axis=1)
        if not finite.all():
            raise file_error(read[int(np.argmin(finite))], f'its features at {self.endpoint} are not finite; try '
                                                           'another --features')
        return read, digests, features


def embed(workdir: Path, folder: Path, *, step: str | int = 'best', endpoint: str = '', pool: str = 'mean',
          output: Path = Path('index.npz')) -> int:
    """Writes an index of all images of a folder, and how well it tells their classes apart beside it, as .json.

    Args:
      folder: of images; folders in it are classes.
      output: .npz file to write.
      workdir, step: see Run.
      endpoint, pool: see FeatureExtractor.

    Returns:
      Exit code: 2 if some images could not be read (all others are in the index all the same), else 0.

    Raises:
      UserError: whatever keeps the index from being made.
    """
    if output.suffix != '.npz':
        raise UserError(f'--output {output}: it ends in .npz')
    if folder.is_file():
        raise file_error(folder, 'embed takes a folder; neighbors takes images')
    files = image_search.find_images(folder)
    if any(path.is_dir() for path in folder.glob('train/*')):
        splits = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith('.'))
        raise file_error(folder, f'it is divided into {", ".join(splits)}, which are no classes: embed one of them')
    run = Run(workdir, step)
    extractor = FeatureExtractor(run, endpoint=endpoint, pool=pool)
    _make_folder(output)
    began = time.monotonic()
    unreadable: list[str] = []
    read, digests, features = extractor.extract(files, unreadable)
    if read:
        below = [file.relative_to(folder) for file in read]
        labels = [path.parts[0] if len(path.parts) > 1 else '' for path in below]
        index = Index(features, np.array([path.as_posix() for path in below]), np.array(labels), np.array(digests),
                      str(folder.resolve()), str(workdir.resolve()), run.step, extractor.endpoint, pool,
                      extractor.weights)
        logging.info('%s images: %s features each, from %s (%s) of %s of %s, in %s', f'{len(read):,}',
                     f'{extractor.dimension:,}', extractor.endpoint, pool, run.chosen, workdir, format_seconds(
                         time.monotonic() - began))
        facts = {'index': output.name, 'folder': index.folder, 'workdir': index.workdir, 'step': index.step,
                 'endpoint': index.endpoint, 'pool': pool, 'images': len(read), 'dimension': extractor.dimension}
        scores = _scores(index)
        try:
            index.save(output)
            write_json(output.with_suffix('.json'), facts | scores)
        except OSError as error:
            raise UserError(f'cannot write {output}: {error.strerror}') from error
        logging.info('written to %s and %s', output, output.with_suffix('.json').name)
    return report_unreadable(unreadable)


def neighbors(inputs: Sequence[str], path: Path, *, top_k: int = 5, output: Path | None = None,
              form: str = 'table', workdir: Path | None = None) -> int:
    """Prints the images of an index that are most similar to others, and draws them where `output` says.

    Args:
      inputs: images and folders of images. Those that are in the index themselves do not find themselves.
      path: of the index.
      top_k: how many neighbours of each.
      output: .png file for a contact sheet; None for none.
      form: 'table', 'csv' or 'json' for the console.
      workdir: where the run that made the index is now, if it has moved.

    Returns:
      Exit code: 2 if some images could not be read (all others are compared all the same), else 0.

    Raises:
      UserError: whatever keeps the images from being compared.
    """
    if top_k < 1:
        raise UserError(f'--top_k {top_k}: it must be at least 1')
    if output is not None and output.suffix != '.png':
        raise UserError(f'--output {output}: it ends in .png')
    index = Index.load(path)
    extractor = _extractor_of(index, path, workdir)
    unreadable: list[str] = []
    files = find_image_files(inputs, None, unreadable)
    if output is not None:
        if any(file.resolve() == output.resolve() for file in files):
            raise UserError(f'--output {output} is one of the images to compare; name another file')
        _make_folder(output)
    read, digests, queries = extractor.extract(files, unreadable)
    if read:
        folder = Path(index.folder)
        indexed = dict(zip(index.files.tolist(), index.digests.tolist()))
        same = [{content, indexed.get(_below(file, folder), content)} for file, content in zip(read, digests)]
        found = nearest_others(index.features, index.digests.tolist(), queries, same, top_k)
        rows = [{'file': str(file), 'neighbors': [
            {'file': str(folder / index.files[row]), 'label': str(index.labels[row]), 'distance': distance}
            for row, distance in others]} for file, others in zip(read, found)]
        print(format_neighbors(rows, form), end='')
    if read and output is not None:
        try:
            contact_sheet.draw(_tiles(rows[:_SHEET_ROWS], folder)).save(output)
        except OSError as error:
            raise UserError(f'cannot write {output}: {error.strerror or error}') from error
        cut = len(rows) > _SHEET_ROWS or top_k > _SHEET_NEIGHBORS
        logging.info('contact sheet written to %s%s', output, f', of the first {_SHEET_ROWS} queries and '
                     f'{_SHEET_NEIGHBORS} neighbours' if cut else '')
    return report_unreadable(unreadable)


def format_neighbors(rows: Sequence[Mapping[str, Any]], form: str) -> str:
    """Formats neighbours as 'table', 'csv' (a line for each neighbour) or 'json'."""
    if form == 'json':
        return json.dumps(rows, indent=2) + '\n'
    if form == 'csv':
        return format_csv([{'query': row['file'], 'rank': rank, 'distance': f"{found['distance']:.6f}",
                            'label': found['label'], 'file': found['file']}
                           for row in rows for rank, found in enumerate(row['neighbors'], start=1)],
                          ('query', 'rank', 'distance', 'label', 'file'))
    width = max((len(found['label']) for row in rows for found in row['neighbors']), default=0)
    lines = []
    for row in rows:
        lines.append(printable(row['file']))
        lines += [f"  {found['distance']:.4f}  " + printable(f"{found['label']:<{width}}  " * bool(width)
                                                              + found['file']) for found in row['neighbors']]
    return '\n'.join(lines) + '\n'


def _extractor_of(index: Index, path: Path, workdir: Path | None = None) -> FeatureExtractor:
    """Returns what made the features.

    Args:
      path: of the index, for messages.
      workdir: where the run is now; None for where it was.

    Raises:
      UserError: the run is gone, or no longer what it was.
    """
    again = 'make the index again with launch.py embed'
    workdir = workdir or Path(index.workdir)
    if not (workdir / checkpoints.FOLDER).is_dir():
        raise file_error(path, f'was made with the run {workdir}, which is gone; say where it is with --workdir, '
                               f'or {again}')
    try:
        extractor = FeatureExtractor(Run(workdir, index.step), endpoint=index.endpoint, pool=index.pool)
    except UserError as error:
        raise file_error(path, f'cannot be used: {error}; {again}') from error
    if (extractor.weights, extractor.dimension) != (index.weights, index.features.shape[1]):
        raise file_error(path, f'was made with other weights than step {index.step:,} of {workdir} has now; {again}')
    return extractor


def _scores(index: Index) -> dict[str, Any]:
    """Returns and logs the precision of an index, {} where its images are not all in class folders."""
    classes = sorted(set(index.labels.tolist()))
    if '' in classes or len(classes) < 2:
        if len(classes) > 1:
            loose = index.files[index.labels == ''].tolist()
            logging.info('no precision: %s image(s) lie beside the class folders (%s)', len(loose), some(loose))
        return {}
    scores = precision(index.features, index.labels.tolist(), index.digests.tolist())
    if scores:
        logging.info('precision@%d %s   recall@1 %s   (chance %s, %d classes)', K,
                     *(format_metric('accuracy', scores[name]) for name in (f'precision@{K}', 'recall@1', 'chance')),
                     len(classes))
    return {'classes': len(classes)} | scores


def _tiles(rows: Sequence[Mapping[str, Any]], folder: Path) -> list[list[contact_sheet.Tile]]:
    """Reads the images of a sheet; one that is gone is left blank."""
    tick = ProgressLog('drawing', len(rows))
    sheet = []
    for number, row in enumerate(rows):
        path = Path(row['file'])
        sheet.append([contact_sheet.Tile(_image(path), (printable(path.name), 'query'), marked=True)])
        for found in row['neighbors'][:_SHEET_NEIGHBORS]:
            path = Path(found['file'])
            name = printable(path.relative_to(folder).as_posix())
            sheet[-1].append(contact_sheet.Tile(_image(path), (name, f"{found['distance']:.4f}")))
        tick(number)
    return sheet


def _image(file: Path) -> np.ndarray | None:
    try:
        return images.read_image(file, channels=3)
    except UserError as error:
        logging.warning('%s', error)
        return None


def _pool(values: jax.Array, pool: str) -> jax.Array:
    """[batch, ..., channels] -> [batch, d]."""
    if pool == 'flatten':
        return values.reshape(len(values), -1)
    pixels = tuple(range(1, values.ndim - 1))
    return values.mean(axis=pixels) if pool == 'mean' else values.max(axis=pixels)


def _normalize(values: jax.Array) -> jax.Array:
    """Scales rows to length 1; a row of zeros stays."""
    length = jnp.linalg.norm(values, axis=1, keepdims=True)
    return values / jnp.where(length > 0, length, 1)


def _needed(variables: Mapping[str, Any], shapes: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Returns the variables that shapes name.

    Raises:
      UserError: one is missing or of another shape.
    """
    have = array_paths.flatten(variables)
    difference = array_paths.compare(have, array_paths.flatten(shapes))
    if difference.missing:
        raise UserError(f'{what} has no weights for it ({difference.missing[0]}): take an endpoint before that layer')
    for path, (found, wanted) in difference.shapes.items():
        raise UserError(f'{what} has {path} of shape {found}, its model needs {wanted}')
    return array_paths.fill(shapes, have)


def _check_memory(count: int, dimension: int) -> None:
    memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    if 4 * count * dimension > memory / 2:
        raise UserError(f'{count:,} images of {dimension:,} features: {4 * count * dimension / 2**30:,.0f} GiB of '
                        f'the {memory / 2**30:,.0f} this machine has: use --pool mean, or a later endpoint')


def _make_folder(output: Path) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'--output {output}: its folder cannot be made: {error.strerror}') from error
    if output.is_dir():
        raise UserError(f'--output {output} is a folder; name a file')


def _content(file: Path) -> str:
    """Returns a checksum of a file's bytes."""
    return hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()


def _below(file: Path, folder: Path) -> str:
    """Returns a file's path below a resolved folder, '' if it lies elsewhere."""
    resolved = file.resolve()
    return resolved.relative_to(folder).as_posix() if resolved.is_relative_to(folder) else ''
