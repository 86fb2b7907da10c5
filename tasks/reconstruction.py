"""Reconstruction of images: from a code of few numbers, or without the noise that was put on them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from clu import metrics as clu_metrics

from ..common.class_groups import matching
from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError, nearest
from . import reconstruction_figures as figures_lib
from .metrics import Mean
from .prediction import Prediction
from .reconstruction_examples import ReconstructionExamples
from .task import Task

LOSSES = ('squared_error', 'cross_entropy')
_LEAST_ERROR = 1e-10  # mean squared error of 100 dB, the most that is told


class Reconstruction(Task):
    """The image itself is what the model should return: images have no labels here, or they are not learned.

    The model's outputs are logits, of whose logistic function each pixel in [0, 1] is the reconstruction; models are
    those of models/autoencoder.py, or others with an output for each pixel, such as a U-Net with as many 'num_classes'
    as there are channels. A model may return {'logits', 'target'} where something else than the image is to be
    reconstructed.

    Args:
      config: 'loss', one of LOSSES, summed over the pixels of an image. 'noise': standard deviation of Gaussian noise
        that is put on the images the model sees, which are clipped to [0, 1] as an image file would be; the target is
        the image without it. Each example has its own noise, always the same in evaluations; `predict` adds none.
        'anomaly': classes, by name or regular expression, that count as anomalies; evaluations tell how well the
        squared error ranks them above all others, as 'auc'. 'per_example': whether evaluations look at every example,
        for its scores and for pictures; it is True if left out.
      info: 'class_names', if there are anomalies.

    Raises:
      UserError: a field is out of range or names no class.
    """
    fields = ('loss', 'noise', 'anomaly', 'per_example')
    noise_fields = ('noise',)
    primary_metric = 'squared_error'
    writes_files, takes_top_k, takes_pixels = True, False, True

    def __init__(self, config: Mapping[str, Any], info: DatasetInfo):
        super().__init__(config, info)
        self.loss = config.get('loss', 'squared_error')
        if self.loss not in LOSSES:
            raise UserError(f'config.task.loss = {self.loss!r}; {nearest(self.loss, LOSSES)}')
        self.noise = config.get('noise', 0.0)
        if isinstance(self.noise, bool) or not isinstance(self.noise, (int, float)) or not 0 <= self.noise < math.inf:
            raise UserError(f'config.task.noise = {self.noise!r}: it is a standard deviation of pixels in [0, 1], from '
                            '0 on')
        self.needs_rng = self.noise > 0
        class_names = tuple(info.class_names or ())
        self.per_example = None
        if config.get('per_example', True):
            self.per_example = ReconstructionExamples(class_names, _anomalous(config.get('anomaly', ()), class_names))
        elif config.get('anomaly', ()):
            raise UserError('config.task.anomaly needs config.task.per_example = True: examples are ranked one by one')
        self.train_metrics = clu_metrics.Collection.create(
            loss=Mean.from_output('loss'), squared_error=Mean.from_output('squared_error'))
        shown = ['loss', 'squared_error', 'psnr', *(['psnr_before'] if self.noise else [])]
        self.eval_metrics = clu_metrics.Collection.create(**{name: Mean.from_output(name) for name in shown})

    def inputs(self, batch: Mapping[str, jax.Array]) -> tuple[Any, ...]:
        """Returns the model's inputs, the images with their noise if the batch has 'rng'."""
        images, *others = super().inputs(batch)
        return self.given(images, batch), *others

    def given(self, images: jax.Array, batch: Mapping[str, jax.Array]) -> jax.Array:
        """Returns what the model sees of images, of the same shape."""
        if not self.noise or 'rng' not in batch:
            return images
        noise = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:]))(batch['rng'])
        return jnp.clip(images + self.noise * noise, 0, 1)

    def target(self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]) -> jax.Array:
        """Returns what is to be reconstructed, float [batch, ...] in [0, 1]."""
        if 'target' in outputs:
            return outputs['target']
        if self.input_features[0] not in batch:
            raise UserError('config.cached_features: the model is to give back the images, which are not kept: leave '
                            'it out, or take a model with a target of its own, such as layer_autoencoder')
        return batch[self.input_features[0]]

    def score(self, outputs: Any, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Scores each image.

        Args:
          outputs: logits, float32 [batch, height, width, channels], or {'logits', and perhaps 'target'}.
          batch: 'image', float32 [batch, height, width, channels] in [0, 1], and 'rng' [batch] if there is noise.

        Returns:
          Each [batch]: 'loss'; 'squared_error', summed over the pixels; 'psnr' in dB, 10 log10(1 / mean squared error);
          with noise 'psnr_before', of the image that the model saw.
        """
        outputs = of_model(outputs)
        logits, target = outputs['logits'], self.target(outputs, batch)
        if logits.shape != target.shape:
            raise UserError(f'config.task.name: reconstruction takes logits of the shape {list(target.shape)} of what '
                            f'is reconstructed, this model gives {list(logits.shape)}: another config.model')
        squared_error = _squared_error(jax.nn.sigmoid(logits), target)
        scores = {'loss': squared_error, 'squared_error': squared_error, 'psnr': _psnr(squared_error, target)}
        if self.loss == 'cross_entropy':
            scores['loss'] = pixel_cross_entropy(logits, target)
        if self.noise:
            scores['psnr_before'] = _psnr(_squared_error(self.given(target, batch), target), target)
        return scores

    def generate(self, model: Any, variables: Mapping[str, Any], batch: Mapping[str, jax.Array], *,
                 begin: str | None = None) -> dict[str, jax.Array]:
        """Returns the reconstructions, and what they are compared with.

        Args:
          model, variables, begin: see `Task.generate`. XLA computes the model once where its outputs are scored, too.
          batch: as for `score`; without 'rng' nothing is left to chance, and the image is the target as it is.

        Returns:
          'given' and 'reconstruction', float32 [batch, height, width, channels] in [0, 1]; 'squared_error' and 'psnr',
          [batch].
        """
        how = {}
        if begin is not None:
            batch, how = {**batch, self.input_features[0]: batch['features']}, {'begin': begin}
        inputs = self.inputs(batch)
        outputs = of_model(model.apply(variables, *inputs, train=False, **how))
        scores = self.score(outputs, batch)
        return {'given': inputs[0], 'reconstruction': jax.nn.sigmoid(outputs['logits']),
                'squared_error': scores['squared_error'], 'psnr': scores['psnr']}

    def predict(self, outputs: Mapping[str, np.ndarray], image: np.ndarray, metadata: Mapping[str, Any], top_k: int
                ) -> Prediction:
        """Returns the reconstruction of one image as a file, in the model's size, and how far it is from the image.

        Args:
          outputs: of `generate`.
          image, metadata, top_k: not used.
        """
        del image, metadata, top_k
        row = {'squared_error': float(outputs['squared_error']), 'psnr': float(outputs['psnr'])}
        pixels = outputs['reconstruction']
        if pixels.ndim != 3:
            return Prediction(row)  # of a layer's values, which are no picture
        if pixels.shape[-1] not in (1, 3):
            raise UserError(f'reconstructions of {pixels.shape[-1]} channels cannot be written as images; 1 or 3 can')
        pixels = np.round(255 * pixels).astype(np.uint8)
        return Prediction(row, {'reconstruction.png': pixels[..., 0] if pixels.shape[-1] == 1 else pixels})

    def flatten(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a prediction as columns of a table."""
        return {name: row[name] for name in ('squared_error', 'psnr')}

    def describe(self, row: Mapping[str, Any]) -> str:
        """Returns a prediction as one line: 'squared error 6.91   PSNR 20.55 dB'."""
        return f"squared error {row['squared_error']:.2f}   PSNR {row['psnr']:.2f} dB"

    def figures(self, metrics: Mapping[str, Any], worst: Sequence[Mapping[str, Any]] = (),
                first: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        """Returns the first and the worst examples beside their reconstructions, and where anomalies lie."""
        figures = {}
        for name, shown in (('reconstructions', first), ('worst_examples', worst)):
            if shown and figures_lib.is_picture(shown[0]['outputs']['reconstruction']):
                figures[name] = figures_lib.draw_pairs(shown, noisy=self.noise > 0)
        if 'extremes' in metrics:
            figures['anomalies'] = figures_lib.draw_extremes(metrics)
            figures['error_distribution'] = figures_lib.draw_errors(metrics)
        return figures


def of_model(outputs: Any) -> Mapping[str, jax.Array]:
    """Returns what the model gave as a dict with 'logits', out of an evaluation's outputs or as it came."""
    while isinstance(outputs, Mapping) and isinstance(outputs['logits'], Mapping):
        outputs = outputs['logits']
    return outputs if isinstance(outputs, Mapping) else {'logits': outputs}


def pixel_cross_entropy(logits: jax.Array, target: jax.Array) -> jax.Array:
    """Returns minus the log-likelihood of each example's pixels under Bernoulli distributions, in nats, [batch].

    Args:
      logits: [batch, ...].
      target: of the same shape, in [0, 1].
    """
    return jnp.sum(optax.sigmoid_binary_cross_entropy(logits, target), axis=tuple(range(1, logits.ndim)))


def _squared_error(found: jax.Array, wanted: jax.Array) -> jax.Array:
    return jnp.sum((found - wanted) ** 2, axis=tuple(range(1, wanted.ndim)))


def _psnr(squared_error: jax.Array, target: jax.Array) -> jax.Array:
    mean = squared_error / math.prod(target.shape[1:])
    return -10 * jnp.log10(jnp.maximum(mean, _LEAST_ERROR))


def _anomalous(patterns: Any, class_names: tuple[str, ...]) -> np.ndarray | None:
    """Returns which classes are anomalies, bool [classes]; None if nobody asked."""
    patterns = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    if not patterns:
        return None
    if not class_names:
        raise UserError(f'config.task.anomaly = {patterns}: the data have no classes')
    return np.any([matching(pattern, class_names, 'config.task.anomaly') for pattern in patterns], axis=0)
