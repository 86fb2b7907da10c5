"""The file of an exported model: a zip without compression of functions, weights, examples and what they mean.

    meta.json              see `write`
    functions/cpu.bin      jax.export (StableHLO); function(weights, inputs) -> outputs, dicts of arrays by name; for
                           every platform one, and where a function takes no batch of any size one for each size
    weights.safetensors    'params/conv1/kernel', ...
    examples.safetensors   'inputs/image', 'outputs/logits', ...: a few inputs and what they gave where it was made
    loader.py              runs all that without this project
"""

import hashlib
import importlib.metadata
import json
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from ..common.errors import file_error
from ..common.files import replacing

FORMAT, VERSION = 'practicum model', 1
ANY = 'any'  # batch size of a function that takes every one
_DATE = (1980, 1, 1, 0, 0, 0)  # the same content is the same file


def write(path: Path, functions: Mapping[str, Mapping[str, bytes]], weights: Mapping[str, np.ndarray],
          inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Writes an exported model; the file is whole or absent.

    Args:
      path: of the zip.
      functions: platform -> batch size, or ANY -> serialized function.
      weights: of the functions.
      inputs, outputs: examples, [n, ...] each.
      meta: 'inputs' and 'outputs', name -> {'shape', 'dtype'} with None for any number, and everything else that is
        to be known. The rest is added here: 'format', 'version', 'functions', 'sha256', 'packages', 'created'.

    Raises:
      UserError: the file cannot be written.
    """
    files = {f'functions/{platform}{"" if batch == ANY else "-" + batch}.bin': content
             for platform, sizes in functions.items() for batch, content in sizes.items()}
    names = {platform: {batch: f'functions/{platform}{"" if batch == ANY else "-" + batch}.bin' for batch in sizes}
             for platform, sizes in functions.items()}
    files['weights.safetensors'] = save({name: np.asarray(array, order='C') for name, array in weights.items()})
    examples = {f'inputs/{name}': array for name, array in inputs.items()}
    examples |= {f'outputs/{name}': array for name, array in outputs.items()}
    files['examples.safetensors'] = save({name: np.asarray(array, order='C') for name, array in examples.items()})
    files['loader.py'] = Path(__file__).with_name('loader.py').read_bytes()
    known = {'format': FORMAT, 'version': VERSION, **meta, 'functions': names,
             'packages': {name: importlib.metadata.version(name) for name in ('jax', 'jaxlib', 'flax')},
             'created': time.strftime('%Y-%m-%d'),
             'sha256': {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file, zipfile.ZipFile(file, 'w', zipfile.ZIP_STORED) as archive:
            for name, content in {'meta.json': json.dumps(known, indent=2).encode(), **files}.items():
                archive.writestr(zipfile.ZipInfo(name, _DATE), content)
    except OSError as error:
        raise file_error(path, f'cannot be written: {error.strerror}') from error


def read_meta(path: Path) -> dict[str, Any]:
    """Returns what an exported model says of itself.

    Raises:
      UserError: no such file, or not one of ours.
    """
    if not path.is_file():
        raise file_error(path, 'no such file')
    try:
        with zipfile.ZipFile(path) as archive:
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise file_error(path, 'is not an exported model: its files are compressed')
            meta = json.loads(archive.read('meta.json'))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, NotImplementedError, RuntimeError) as error:
        raise file_error(path, 'is not an exported model, or is damaged: launch.py export makes one') from error
    if not isinstance(meta, dict) or meta.get('format') != FORMAT:
        raise file_error(path, 'is not an exported model: launch.py export makes one')
    if meta.get('version') != VERSION:
        raise file_error(path, f'is an exported model of version {meta.get("version")}; this is for {VERSION}')
    return meta
