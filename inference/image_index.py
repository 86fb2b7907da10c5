"""Features of many images in one file, the search for similar ones, and how well they tell classes apart."""

import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..common.errors import UserError, file_error
from ..common.files import replacing

K = 5  # neighbours that precision@k looks at
_FORMAT = 'practicum index 1'
_TEXTS = ('format', 'folder', 'workdir', 'endpoint', 'pool', 'weights')  # fields of an index that are one text


@dataclasses.dataclass
class Index:
    """The features of a folder's images, and all that is needed to compare others with them.

    Attributes:
      features: float32 [n, d], rows of length 1 (or 0).
      files: paths below `folder`, [n].
      labels: class folders, [n]; '' for images that lie in none.
      digests: checksums of the files' content, [n].
      folder, workdir: absolute paths.
      step: of the checkpoint.
      endpoint, pool, weights: see retrieval.FeatureExtractor.
    """
    features: np.ndarray
    files: np.ndarray
    labels: np.ndarray
    digests: np.ndarray
    folder: str
    workdir: str
    step: int
    endpoint: str
    pool: str
    weights: str
    format: str = _FORMAT

    def save(self, path: Path) -> None:
        """Writes it as .npz, whole or not at all."""
        with replacing(path) as file:
            np.savez(file, **vars(self))

    @classmethod
    def load(cls, path: Path) -> 'Index':
        """Reads what `save` wrote; nothing is ever unpickled.

        Raises:
          UserError: no such file, or one that is damaged or no index.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                if not isinstance(archive, np.lib.npyio.NpzFile) or archive.get('format', '') != _FORMAT:
                    raise file_error(path, 'is not an index; make one with launch.py embed')
                index = cls(**{field.name: archive[field.name] for field in dataclasses.fields(cls)})
        except FileNotFoundError:
            raise file_error(path, 'no such index; make one with launch.py embed') from None
        except IsADirectoryError:
            raise file_error(path, 'is a folder, not an index') from None
        except UserError:
            raise
        # Damaged bytes lead numpy and zipfile to raise TokenError, OverflowError, BadZipFile, zlib.error and a dozen
        # others; the list changes with their releases, and only they run in this block.
        except Exception as error:
            raise file_error(path, 'is damaged or not an index; make one with launch.py embed') from error
        index._check(path)
        for name in _TEXTS:
            setattr(index, name, str(getattr(index, name)))
        index.step = int(index.step)
        return index

    def _check(self, path: Path) -> None:
        rows, texts = (self.files, self.labels, self.digests), [getattr(self, name) for name in _TEXTS]
        sound = (self.features.dtype == np.float32 and self.features.ndim == 2 and len(self.features)
                 and np.isfinite(self.features).all()
                 and all(row.dtype.kind == 'U' and row.shape == self.features.shape[:1] for row in rows)
                 and all(text.dtype.kind == 'U' and text.shape == () for text in texts)
                 and self.step.dtype.kind == 'i' and self.step.shape == ())
        if not sound:
            raise file_error(path, 'its parts do not fit together; make the index again with launch.py embed')


def nearest_others(features: np.ndarray, digests: Sequence[str], queries: np.ndarray, same: Sequence[set[str]],
                   k: int) -> list[list[tuple[int, float]]]:
    """Finds for each query the nearest rows that are not the query's own image.

    Args:
      features: float32 [n, d].
      digests: of the content of the n images.
      queries: float32 [m, d].
      same: for each query the digests of images that are itself.
      k: how many to find; fewer where there are fewer others.

    Returns:
      For each query (row, cosine distance in [0, 2]) pairs, the nearest first.
    """
    from sklearn.neighbors import NearestNeighbors  # half a second that only these commands need
    copies = collections.Counter(digests)
    most = max(sum(copies[content] for content in contents) for contents in same)
    search = NearestNeighbors(n_neighbors=min(len(features), k + most), metric='cosine', algorithm='brute')
    distances, rows = search.fit(features).kneighbors(queries)
    found = []
    for contents, row_distances, candidates in zip(same, distances, rows):
        others = [(int(row), float(distance)) for row, distance in zip(candidates, row_distances)
                  if digests[row] not in contents]
        found.append(others[:k])
    return found


def precision(features: np.ndarray, labels: Sequence[str], digests: Sequence[str], k: int = K) -> dict[str, float]:
    """Scores features by whether the nearest other images are of the same class, leave-one-out.

    Args:
      features: float32 [n, d].
      labels: classes of the n images.
      digests: of their content: copies of one image are not others of each other.
      k: how many neighbours to look at; of fewer others all.

    Returns:
      'precision@k': the mean share of the k nearest of the same class; 'recall@1': the share of images whose nearest
      has it; 'chance': what either would be for features without meaning. {} if all images are the same.
    """
    if len(set(digests)) < 2:
        return {}
    found = nearest_others(features, digests, features, [{content} for content in digests], k)
    hits = [[labels[row] == label for row, _ in others] for label, others in zip(labels, found)]
    copies, alike = collections.Counter(digests), collections.Counter(labels)
    both = collections.Counter(zip(digests, labels))
    chance = [(alike[label] - both[content, label]) / (len(labels) - copies[content])
              for label, content in zip(labels, digests)]
    return {f'precision@{k}': float(np.mean([np.mean(row) for row in hits])),
            'recall@1': float(np.mean([row[0] for row in hits])), 'chance': float(np.mean(chance))}
