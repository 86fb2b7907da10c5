"""Reconstruction, example by example: how far each is from its image, and which classes stand out."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .classification_metrics import roc_auc
from .task import PerExample

_KEPT_PIXELS = 64  # side up to which images are kept whole for pictures of anomalies; of larger ones every n-th pixel
_EXTREMES = 10  # shown of each kind


class ReconstructionExamples(PerExample):
    """Looks at every evaluated image and its reconstruction.

    Args:
      class_names: of the data set, () for data without.
      anomalous: which of them are anomalies, bool [classes]; None if there are none.
    """

    def __init__(self, class_names: Sequence[str], anomalous: np.ndarray | None):
        self._class_names, self._anomalous = class_names, anomalous
        self.metrics = () if anomalous is None else ('auc',)

    def outputs(self, outputs: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Returns 'given' and 'reconstruction' as uint8 [batch, ...], 'squared_error' and 'psnr' [batch]."""
        images = {name: jnp.round(255 * jnp.clip(outputs[name], 0, 1)).astype(jnp.uint8)
                  for name in ('given', 'reconstruction')}
        return images | {name: outputs[name] for name in ('squared_error', 'psnr')}

    def measure(self, output: Mapping[str, np.ndarray], example: Mapping[str, np.ndarray],
                metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the error of one example and its class; where there are anomalies also its images, 'pair'."""
        del metadata
        scores = {name: float(output[name]) for name in ('squared_error', 'psnr')}
        if self._class_names and np.ndim(example.get('label', ())) == 0:
            scores = {'class': self._class_names[int(example['label'])], **scores}
            if self._anomalous is not None:
                scores['anomalous'] = bool(self._anomalous[int(example['label'])])
                scores['pair'] = np.stack([_thumbnail(output[name]) for name in ('given', 'reconstruction')])
        return scores

    def severity(self, scores: Mapping[str, Any]) -> float:
        """Returns the squared error."""
        return scores['squared_error']

    def listed(self, scores: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the scores without images."""
        return {name: value for name, value in scores.items() if name != 'pair'}

    def summarize(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Returns how well the squared error tells anomalies from the rest; {} where there is only one kind.

        Returns:
          'auc', the area under the ROC curve; 'errors' and 'anomalous', [examples]; 'extremes', uint8 [4, shown, 2,
          height, width, channels], and their 'extreme_errors' [4, shown]: pairs of image and reconstruction of usual
          examples of least and of largest error, and of anomalies likewise.
        """
        anomalous = np.array([row.get('anomalous', False) for row in rows], bool)
        if self._anomalous is None or anomalous.all() or not anomalous.any():
            return {}
        errors = np.array([row['squared_error'] for row in rows])
        extremes = []
        for kind in (np.flatnonzero(~anomalous), np.flatnonzero(anomalous)):
            order = kind[np.argsort(errors[kind], kind='stable')]
            shown = min(_EXTREMES, (~anomalous).sum(), anomalous.sum())
            extremes += [order[:shown], order[::-1][:shown]]
        return {'auc': roc_auc(errors, anomalous), 'errors': errors, 'anomalous': anomalous,
                'extremes': np.stack([[rows[index]['pair'] for index in kind] for kind in extremes]),
                'extreme_errors': errors[np.stack(extremes)]}


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """Returns every pixel of a small image, [height, width, channels], and some of a large one."""
    stride = -(-max(image.shape[:2]) // _KEPT_PIXELS)
    return image[::stride, ::stride]
