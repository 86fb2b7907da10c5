"""What a network sees: its filters, the feature maps of an image, and where in the image it sees a class.

How an image that a unit wants to see is made is in maximization.py, how all of it is drawn in explanation_sheet.py.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ..common.errors import UserError, nearest
from ..input_pipeline import preprocessing
from ..models.stages import endpoints, watching
from ..tasks import Reconstruction, RegionDetection
from ..training import array_paths, forward
from .arrays import as_uint8
from .image_reader import ImageReader
from .targets import Targets, targets_of

_BATCH_PIXELS = 2**19  # of occluded images that are looked at together
_PARTS = 6  # an occluding square's side is one of so many parts of the image's
_LEAST_PATCH = 3  # pixels
_LEAST_CELLS = 16  # of a grid that still says where something is


@dataclasses.dataclass(frozen=True)
class Filters:
    """The weights of one layer.

    Attributes:
      layer: path of the layer in the network, 'conv1' or 'body/stem/conv'.
      kernels: float32 [filters, height, width, inputs]; of a dense layer on an image those of its units, as large as
        the image.
    """
    layer: str
    kernels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What a network sees in one image. Maps of a class are None where there is no class, or no endpoint with a grid.

    Attributes:
      file: of the image; None where it was an array.
      image: as the network is shown it, uint8 [height, width, channels].
      maps: endpoint -> its value, float32 [rows, columns, channels].
      activities: endpoint -> the mean of each of its channels over the image, float32 [channels]; also of endpoints
        without a grid, whose channels are units.
      likeliest: (class, share) of up to three classes, the likeliest first.
      class_name: the one that is explained; '' for none.
      share: of that class: its probability; of a segmentation its mean over the pixels of the class; of a detector
        that of the likeliest cell; of a regression the number itself.
      box: of a detector the object that is explained, the likeliest of its class: left, top, right and bottom in
        pixels of `image`. None for other networks.
      endpoint: of grad_cam.
      grad_cam: float32 [rows, columns], 0 or more: how much each cell of the endpoint speaks for the class, or the
        object.
      drops: float32 [rows, columns]: by how much the share falls when a square of the image is hidden. Below 0 it
        rises.
      corners: where the squares of drops begin: their tops and their lefts, in pixels.
      patch: height and width of the squares.
    """
    image: np.ndarray
    maps: dict[str, np.ndarray]
    activities: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    likeliest: tuple[tuple[str, float], ...] = ()
    class_name: str = ''
    share: float = 0.0
    box: tuple[float, ...] | None = None
    endpoint: str = ''
    grad_cam: np.ndarray | None = None
    drops: np.ndarray | None = None
    corners: tuple[np.ndarray, ...] = ()
    patch: tuple[int, ...] = ()
    file: Path | None = None

    @property
    def occlusion(self) -> np.ndarray | None:
        """For every pixel of the image the mean drop over the squares that hid it, float32 [height, width]."""
        if self.drops is None:
            return None
        total, count = np.zeros((2, *self.image.shape[:2]), np.float32)
        for row, top in enumerate(self.corners[0]):
            for column, left in enumerate(self.corners[1]):
                square = slice(top, top + self.patch[0]), slice(left, left + self.patch[1])
                total[square] += self.drops[row, column]
                count[square] += 1
        return total / count


class Explainer:
    """Looks into the network of a run, which may be a body without a head.

    Args:
      run: see run.py.

    Attributes:
      run: as given.
      endpoints: endpoint -> the shape of its value for one image, in the order they are computed.
      maps: the endpoints with a grid of cells, [rows, columns, channels], each once.
      endpoint: where Grad-CAM looks unless told otherwise: of the coarsest grid of at least 4x4 cells the last endpoint
        that is no pooling; '' if no endpoint has a grid.
      of_units: the endpoint whose channels or units are looked at unless told otherwise: the same one, without a grid
        the last before the logits; of an autoencoder that of the fewest numbers, its code. '' if there is none.
      layers: paths of the layers that have weights.
      targets: what a class is; None where there are none.
      reader: reads images as the network takes them.

    Raises:
      UserError: the run looks at no images, at videos or regions, or takes more than images.
    """

    def __init__(self, run: Any):
        if run.feature == 'observation':
            raise UserError(f'{run.workdir} has learned to act: it sees what its environment shows, which no image '
                            'file has; its report shows episodes')
        run.check_images()
        if run.info.frames > 1:
            raise UserError(f'{run.workdir} looks at videos: explain is for networks that look at images')
        if isinstance(run.task, RegionDetection):
            raise UserError(f'{run.workdir} looks at regions of images: explain the run its body came from')
        writes = run.info.vocabulary is not None
        if run.task is not None and not writes and run.task.input_features != ('image',):
            raise UserError(f'{run.workdir} needs {", ".join(run.task.input_features)} together: explain is for '
                            'networks that look at images alone')
        self.run, self.reader = run, ImageReader(run.config.image, sounds=run.config.data.source == 'sounds')
        self.shape = (*self.reader.size, self.reader.channels)
        self.targets: Targets | None = targets_of(run)
        self._preprocess = preprocessing.build(run.config.image, info=run.info)
        stop = self._last_with_weights() if run.task is None else 'features' if writes else None
        self._how = {'train': False} | ({'features': stop} if stop else {})
        self._kernels = {path.removeprefix('params/').removesuffix('/kernel'): array for path, array in
                         array_paths.flatten(run.variables).items() if path.endswith('/kernel')}
        self.layers = frozenset(path.removeprefix('params/').rpartition('/')[0] for path in
                                array_paths.flatten(run.variables) if path.startswith('params/'))
        self.endpoints: dict[str, tuple[int, ...]] = {}
        self.maps: tuple[str, ...] = ()
        self._layers: dict[str, list[str]] = {}
        self._trace()
        self.endpoint = self._deepest()
        self.of_units = self._narrowest() if isinstance(run.task, Reconstruction) else self.endpoint or next(
            (name for name in reversed(self.endpoints) if name != 'logits'), '')
        self._compiled: dict[str, Callable] = {}

    def filters(self, endpoint: str = '') -> tuple[Filters, ...]:
        """Returns the filters that make an endpoint; () if they are no images, as those of 1x1 convolutions.

        Args:
          endpoint: of the network; of one without weights, such as a pooling, those before it. '' for the network's
            first layer.

        Raises:
          UserError: no such endpoint.
        """
        if endpoint:
            self.check_endpoint(endpoint)
            names = list(self.endpoints)
            before = names[names.index(endpoint)::-1]
            layers = next((self._layers[name] for name in before if self._layers[name]), [])
        else:
            layers = next((found for found in self._layers.values() if found), [])[:1]
        found = (Filters(layer, self._as_images(layer)) for layer in layers)
        return tuple(filters for filters in found if filters.kernels.size)

    def explain(self, image: np.ndarray, *, class_name: str | None = None, endpoint: str = '', patch: int = 0
                ) -> Explanation:
        """Returns what the network sees in an image.

        Args:
          image: as `reader` reads it, of any size.
          class_name: what to look for; None for the likeliest class.
          endpoint: for Grad-CAM; '' for `self.endpoint`.
          patch: side in pixels of the squares that are hidden for occlusion; 0 for a sixth of the image.

        Raises:
          UserError: no such class or endpoint, an endpoint without a grid, or a patch that does not fit.
        """
        self.check(class_name, endpoint, patch)
        endpoint = endpoint or self.endpoint
        fitted = self.reader.fit(image)
        inputs = self.prepare(fitted[None])
        ranks, outputs, maps, activities = self._jit('see', self._see)(self.run.variables, inputs)
        found = Explanation(as_uint8(fitted), *({name: np.asarray(values[0]) for name, values in of_all.items()}
                                                for of_all in (maps, activities)))
        if self.targets is None:
            return found
        index = self._likeliest(np.asarray(ranks[0])) if class_name is None else self.targets.index(class_name)
        share = self._jit('share', lambda variables, inputs, reference, index: self.targets.share(
            self.forward(variables, inputs), reference, index))
        own = float(share(self.run.variables, inputs, outputs, index)[0])
        grad_cam = None
        if endpoint:
            grad_cam = np.asarray(self._jit(f'grad_cam {endpoint}', functools.partial(self._grad_cam, endpoint))(
                self.run.variables, inputs, index))
        size = (patch, patch) if patch else tuple(
            min(side - 1, max(_LEAST_PATCH, round(side / _PARTS))) for side in self.shape[:2])
        corners = tuple(map(_steps, self.shape, size))
        hidden = self._hide(np.asarray(inputs[0]), corners, size,
                            lambda batch: share(self.run.variables, batch, outputs, index))
        return dataclasses.replace(
            found, likeliest=self._best(np.asarray(ranks[0]), index, own), class_name=self.targets.names[index],
            share=own, box=self._box(outputs, index), endpoint=endpoint, grad_cam=grad_cam, drops=own - hidden,
            corners=corners, patch=size)

    def check(self, class_name: str | None = None, endpoint: str = '', patch: int = 0) -> None:
        """Raises UserError if `explain` cannot look for a class, at an endpoint, or hide such squares."""
        if class_name is not None:
            if self.targets is None:
                why = ('is a body without a head, it knows no classes: leave --class out, or train a head on it with '
                       '--config.init_from.workdir' if self.run.task is None else
                       f'has the task {self.run.config.task.name}, it knows no classes: leave --class out')
                raise UserError(f'--class {class_name}: {self.run.workdir} {why}')
            self.targets.index(class_name)
        if endpoint:
            self.check_endpoint(endpoint)
            if not self.has_grid(endpoint):
                raise UserError(f'--endpoint {endpoint}: it has no grid of cells, only '
                                f'{" x ".join(map(str, self.endpoints[endpoint]))} numbers, whose units --maximize '
                                f'draws; those that have a grid: {", ".join(self.maps) or "none"}')
        if patch and self.targets is None:
            raise UserError(f'--patch {patch}: {self.run.workdir} knows no classes, nothing is hidden: leave it out')
        if patch < 0 or patch >= min(self.shape[:2]):
            raise UserError(f'--patch {patch}: squares of at least 1 and less than {min(self.shape[:2])} pixels can be '
                            'hidden')

    def check_endpoint(self, endpoint: str) -> None:
        """Raises UserError if the network has no such endpoint, or no weights for it."""
        if endpoint not in self.endpoints:
            raise UserError(f'--endpoint {endpoint}: {self.run.config.model.name} has no such endpoint'
                            f'{" with weights" if self.run.task is None else ""}; '
                            f'{nearest(endpoint, list(self.endpoints))}')

    def prepare(self, images: np.ndarray) -> jax.Array:
        """Returns images as the network takes them, float32 [batch, height, width, channels]."""
        return self._jit('prepare', lambda images: self._preprocess({'image': images}, None)['image'])(images)

    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the least and the largest value of each channel that the network may be shown, float32 [channels]."""
        image = self.run.config.image
        mean, std = (np.broadcast_to(np.asarray(image[name], np.float32), self.shape[-1:]) for name in ('mean', 'std'))
        if self.run.takes_any_floats or image.samplewise_std or image.zca_epsilon:
            return np.full_like(mean, -3), np.full_like(mean, 3)  # standard deviations
        return -mean / std, ((2 if image.local_mean else 1) - mean) / std  # evened out, pixels are around 1

    def shown(self, inputs: np.ndarray) -> np.ndarray:
        """Returns what the network takes as pixels to look at, uint8 of the same shape."""
        low, high = self.limits()
        return np.round(255 * np.clip((inputs - low) / (high - low), 0, 1)).astype(np.uint8)

    def forward(self, variables: Any, inputs: jax.Array) -> Any:
        """Applies the network, as far as there are weights for it."""
        return self.run.model.apply(variables, inputs, **self._how)

    def _jit(self, name: str, function: Callable) -> Callable:
        if name not in self._compiled:
            self._compiled[name] = jax.jit(function)
        return self._compiled[name]

    def _see(self, variables: Any, inputs: jax.Array
             ) -> tuple[jax.Array, Any, dict[str, jax.Array], dict[str, jax.Array]]:
        """Returns the ranks of classes, the outputs, the values of endpoints with a grid, and the means of all."""
        maps, activities = {}, {}

        def watch(endpoint: str, value: Any) -> Any:
            if endpoint in self.endpoints:
                activities[endpoint] = mean_over_cells(value)
                if self.has_grid(endpoint):
                    maps[endpoint] = value.astype(jnp.float32)
            return value
        with watching(watch):
            outputs = self.forward(variables, inputs)
        return self.targets.rank(outputs) if self.targets else (), outputs, maps, activities

    def _grad_cam(self, endpoint: str, variables: Any, inputs: jax.Array, index: jax.Array) -> jax.Array:
        """Selvaraju et al. 2017, "Grad-CAM: visual explanations from deep networks", equations 1 and 2.

        Of one object among several the gradient is that of each cell, and not its mean over all of them, which would
        show every object that looks alike (Draelos and Carin 2020, "Use HiResCAM instead of Grad-CAM for faithful
        explanations of convolutional neural networks", equation 5).
        """
        def score(change: jax.Array) -> tuple[jax.Array, jax.Array]:
            found = []

            def watch(name: str, value: Any) -> Any:
                if name != endpoint:
                    return value
                found.append(value)
                return value + change.astype(value.dtype)
            with watching(watch):
                outputs = self.forward(variables, inputs)
            return self.targets.score(outputs, outputs, index)[0], found[0].astype(jnp.float32)
        gradient, values = jax.grad(score, has_aux=True)(jnp.zeros((1, *self.endpoints[endpoint])))
        if self.targets.box is None:
            gradient = gradient.mean(axis=(1, 2), keepdims=True)
        return nn.relu((values * gradient).sum(axis=-1))[0]

    def _box(self, outputs: Any, index: int) -> tuple[float, ...] | None:
        """Returns the object that is explained, within the image; None where it is no object."""
        if self.targets.box is None:
            return None
        box = np.asarray(self._jit('box', self.targets.box)(outputs, index))
        height, width = self.shape[:2]
        return tuple(np.clip(box, 0, (width, height, width, height)).tolist())

    def _hide(self, inputs: np.ndarray, corners: tuple[np.ndarray, ...], size: tuple[int, ...],
              share: Callable[[np.ndarray], jax.Array]) -> np.ndarray:
        """Returns a class's share with each square hidden, float32 [rows, columns].

        Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", section 4.2. Squares are 0
        after preprocessing: config.image.mean, black where there is none.
        """
        places = [(top, left) for top in corners[0] for left in corners[1]]
        most = max(1, min(64, _BATCH_PIXELS // (self.shape[0] * self.shape[1])))
        shares = []
        for first in range(0, len(places), most):
            batch = np.repeat(inputs[None], most, axis=0)  # of one size, so that one function is compiled
            for row, (top, left) in enumerate(places[first:first + most]):
                batch[row, top:top + size[0], left:left + size[1]] = 0
            shares.append(np.asarray(share(batch)))
        return np.concatenate(shares)[:len(places)].reshape(tuple(map(len, corners)))

    def _likeliest(self, ranks: np.ndarray) -> int:
        order = np.argsort(-ranks, kind='stable')
        return int(next((place for place in order if place >= self.targets.first and ranks[place] > 0), order[0]))

    def _best(self, ranks: np.ndarray, index: int, share: float) -> tuple[tuple[str, float], ...]:
        if not self.targets.unit:  # numbers have no order
            return ((self.targets.names[index], share),)
        order = np.argsort(-ranks, kind='stable')[:3]
        return tuple((self.targets.names[place], float(ranks[place])) for place in order)

    def _last_with_weights(self) -> str:
        """Returns the last endpoint that the weights of a body are enough for."""
        run, example = self.run, jnp.zeros((1, *self.shape))
        have = array_paths.flatten(run.variables)
        for endpoint in reversed(endpoints(run.model, example)):
            shapes = forward.body_shapes(run.model, (example,), endpoint)
            difference = array_paths.compare(have, array_paths.flatten(shapes))
            if not difference.missing and not difference.shapes:
                return endpoint
        raise UserError(f'{run.workdir} has no weights of {run.config.model.name} from its first layer on')

    def _trace(self) -> None:
        """Finds out which endpoints there are, and which layers make them; computes nothing."""
        waiting: list[str] = []
        called: list[str] = []
        once: dict[str, Any] = {}  # endpoint -> its value; of a value with several names the shortest

        def watch(endpoint: str, value: Any) -> Any:
            if isinstance(value, jax.Array) and value.ndim > 1:  # not what is one number, as a discriminator's logit
                same = next((name for name, other in once.items() if other is value), '')
                if not same or len(endpoint) < len(same):
                    once.pop(same, None)
                    once[endpoint] = value
                self.endpoints[endpoint] = value.shape[1:]
                self._layers[endpoint] = list(dict.fromkeys(waiting))
                called.extend(waiting)
                waiting.clear()
            return value

        def note(call: Callable, arguments: Any, keywords: Any, context: Any) -> Any:
            layer = '/'.join(context.module.path)
            if context.method_name == '__call__' and layer in self._kernels:
                waiting.append(layer)
            return call(*arguments, **keywords)
        with watching(watch), nn.intercept_methods(note):
            jax.eval_shape(self.forward, self.run.variables, jax.ShapeDtypeStruct((1, *self.shape), jnp.float32))
        self.maps = tuple(name for name in once if self.has_grid(name))
        self._layers[''] = list(waiting)  # after the last endpoint
        self._first_layer = next(iter((*called, *waiting)), '')

    def has_grid(self, endpoint: str) -> bool:
        """Returns whether an endpoint says where in the image something is: [rows, columns, channels]."""
        shape = self.endpoints[endpoint]
        return len(shape) == 3 and shape[0] * shape[1] > 1

    def _deepest(self) -> str:
        names = [name for name in self.maps if not name.startswith('pool')] or self.maps
        cells = {name: self.endpoints[name][0] * self.endpoints[name][1] for name in names}
        cells = {name: count for name, count in cells.items() if count >= _LEAST_CELLS} or cells
        return [name for name, count in cells.items() if count == min(cells.values())][-1] if cells else ''

    def _narrowest(self) -> str:
        names = [name for name in self.endpoints if name != 'logits']
        return min(names, key=lambda name: np.prod(self.endpoints[name]), default='')

    def _as_images(self, layer: str) -> np.ndarray:
        """Returns a layer's kernel as images [filters, height, width, inputs], none of them if they show nothing."""
        kernel = np.asarray(self._kernels[layer], np.float32)
        if kernel.ndim == 2 and layer == self._first_layer and len(kernel) == np.prod(self.shape):
            kernel = kernel.reshape(*self.shape, -1)
        if kernel.ndim != 4 or kernel.shape[0] * kernel.shape[1] == 1:
            return np.zeros((0, 1, 1, 1), np.float32)
        return kernel.transpose(3, 0, 1, 2)


def mean_over_cells(values: jax.Array) -> jax.Array:
    """Returns what channels do on the whole, [batch, ..., channels] -> float32 [batch, channels]."""
    return values.astype(jnp.float32).mean(axis=tuple(range(1, values.ndim - 1)))


def _steps(side: int, patch: int) -> np.ndarray:
    """Returns where squares begin along a side, half of them apart; the last one ends at the edge."""
    return np.unique(np.append(np.arange(0, side - patch, max(1, patch // 2)), side - patch))
