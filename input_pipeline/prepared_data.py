"""Where data sets of tfds lie, and preparing those that are not there yet.

Stock data sets are found by their tfds name in any data_dir; those of `input_pipeline/datasets` are prepared on first
use, since they need no download.
"""

import contextlib
import io
import logging
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..common.console import warn_once
from ..common.errors import UserError, nearest
from ..common.files import digest
from ..common.turns import one_at_a_time
from . import datasets, memory

_MANUAL_FILES = 'manual_files.txt'  # beside the prepared data: a digest of the files they were made from


def prepared_folder(data: Mapping[str, Any]) -> Path:
    """Returns <data_dir>/<name>/<version> of the data set that config.data names, prepared there if that is possible.

    Raises:
      UserError: it is not prepared, with where it was looked for and how to get it.
    """
    if not data['name']:
        raise UserError("config.data.name is empty: give the tfds name of a data set, such as 'mnist'")
    data_dir = Path(data['data_dir'] or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets').expanduser()
    data_dir = data_dir.absolute()
    folder = find_prepared(data_dir, data['name'])
    if folder is not None and data['manual_dir']:
        _warn_of_other_files(folder, Path(data['manual_dir']).expanduser().absolute())
    if folder is None and not _configurations(data_dir, data['name']):
        with one_at_a_time(f'preparing {data["name"]}', ['prepared_data', str(data_dir), data['name']]):
            folder = find_prepared(data_dir, data['name'])
            if folder is None:
                prepare(data_dir, data['name'], download=data['download'], manual_dir=data['manual_dir'])
                folder = find_prepared(data_dir, data['name'])
    if folder is None:
        raise UserError(f"config.data.name = {data['name']!r} leaves open which configuration of it is meant; prepared "
                        f"in {data_dir}: {', '.join(_configurations(data_dir, data['name']))}")
    return folder


def find_prepared(data_dir: Path, name: str) -> Path | None:
    """Returns the folder of the newest prepared version, or of the one in 'name:1.2.3'; None if there is none."""
    name, _, version = name.partition(':')
    found = [p.parent for p in (data_dir / name).glob('*/dataset_info.json') if re.fullmatch(r'[\d.]+', p.parent.name)]
    if version:
        found = [p for p in found if p.name == version]
    return max(found, key=lambda p: [int(n) for n in p.name.split('.')], default=None)


def _configurations(data_dir: Path, name: str) -> list[str]:
    """Returns the prepared configurations of a data set, 'name/configuration', if it has any."""
    return sorted(str(p.parent.parent.relative_to(data_dir)) for p in (data_dir / name).glob('*/*/dataset_info.json'))


def prepare(data_dir: Path, name: str, *, download: bool, manual_dir: str | None = None) -> None:
    """Prepares a data set in array_record format.

    Args:
      data_dir: where to.
      name: tfds name, with its configuration if it has several: 'sunnybrook/by_patient'.
      download: whether tfds may fetch files.
      manual_dir: where the files are that tfds may not fetch; None for <data_dir>/downloads/manual.

    Raises:
      UserError: unknown name, or it would need a download that is not allowed or not possible.
    """
    base = re.split('[/:]', name)[0]
    own = base in datasets.OWN
    where = f'{name} is not prepared in {data_dir}'
    if not own and not download:
        close = nearest(base, list(datasets.OWN))
        if close.startswith('did you mean'):
            raise UserError(f'config.data.name = {name!r}: {close} Otherwise point --config.data.data_dir to where '
                            'it is')
        raise UserError(f'{where}: point --config.data.data_dir or $TFDS_DATA_DIR to where it is, or add '
                        '--config.data.download=True to fetch it (needs network)')
    if not own and not _network():
        raise UserError(f'{where} and there is no network to fetch it: prepare it on a machine with network '
                        f'(tfds build {name} --file_format=array_record) and copy the folder {data_dir / name}')
    from ..common.tensorflow import import_tensorflow
    import_tensorflow()
    import tensorflow_datasets as tfds
    if own:
        datasets.register(base)
        tfds.disable_progress_bar()
        logging.info('preparing %s in %s', name, data_dir)
    talk = contextlib.redirect_stdout(io.StringIO()) if own else contextlib.nullcontext()
    try:
        with talk:  # tfds would speak of a download
            configuration = name.split(':')[0].partition('/')[2]
            known = tfds.builder_cls(base).builder_configs
            if configuration and configuration not in known:
                raise UserError(f'{base} has no configuration {configuration!r}; {nearest(configuration, list(known))}')
            try:
                builder = tfds.builder(name, data_dir=str(data_dir), file_format='array_record')
            except ValueError as error:  # 'digits:..'
                raise UserError(f"config.data.name = {name!r} is no name of a tfds data set, such as 'mnist' or "
                                f"'mnist:3.0.1': {' '.join(str(error).split())[:200]}") from error
            manual = Path(manual_dir).expanduser().absolute() if manual_dir else data_dir / 'downloads' / 'manual'
            if builder.MANUAL_DOWNLOAD_INSTRUCTIONS and not manual.is_dir():
                instructions = ' '.join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
                raise UserError(f'{where} and there is no folder {manual} with its files: give it with '
                                f'--config.data.manual_dir=DIR. {instructions}')
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(
                try_download_gcs=not own, manual_dir=str(manual)))
        if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
            (Path(builder.data_dir) / _MANUAL_FILES).write_text(_manual_files(manual))
    except tfds.core.DatasetNotFoundError as error:
        raise UserError(f'tfds knows no data set {name!r}; {nearest(name, tfds.list_builders())}') from error
    except (OSError, AssertionError) as error:
        raise UserError(f'{where} and preparing it failed: {" ".join(str(error).split())[:300]}') from error


def _manual_files(folder: Path) -> str:
    """Returns what changes whenever the files in and below a folder do."""
    files = [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]
    return digest(sorted(memory.fingerprint([file for file in files if file.is_file()])))


def _warn_of_other_files(prepared: Path, manual_dir: Path) -> None:
    """Data that are prepared already are used as they are, whatever has become of the files they were made from."""
    note = prepared / _MANUAL_FILES
    if note.is_file() and note.read_text() != _manual_files(manual_dir):
        warn_once(f'{prepared} was prepared from other files than those in {manual_dir}, which are not read: remove '
                  'the folder to prepare it from them')


def _network(timeout_seconds: float = 3.0) -> bool:
    """Whether tfds has a chance: it retries for minutes where there is no network."""
    if any(os.environ.get(v) for v in ('https_proxy', 'HTTPS_PROXY', 'http_proxy', 'HTTP_PROXY')):
        return True
    try:
        socket.create_connection(('storage.googleapis.com', 443), timeout_seconds).close()
        return True
    except OSError:
        return False
