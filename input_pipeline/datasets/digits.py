"""The handwritten digits that come with scikit-learn: 1,797 images of 8x8 pixels, no download."""

import numpy as np
import tensorflow_datasets as tfds

_CITATION = """
@misc{uci_digits, author = {Alpaydin, E. and Kaynak, C.}, title = {Optical Recognition of Handwritten Digits},
  year = {1998}, publisher = {UCI Machine Learning Repository}, doi = {10.24432/C50P49}}
"""
_SPLITS = {'train': (0.0, 0.7), 'validation': (0.7, 0.8), 'test': (0.8, 1.0)}


class Digits(tfds.core.GeneratorBasedBuilder):
    """The test part of UCI's optical digits (13 writers), grey values 0..16 scaled to 0..255.

    The split is ours, random and stratified by class with a fixed seed: 70 % train, 10 % validation, 20 % test.
    """

    VERSION = tfds.core.Version('1.0.0')
    RELEASE_NOTES = {'1.0.0': 'First version.'}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description=self.__doc__,
            features=tfds.features.FeaturesDict({
                'image': tfds.features.Image(shape=(8, 8, 1)),
                'label': tfds.features.ClassLabel(names=[str(i) for i in range(10)])}),
            supervised_keys=('image', 'label'), citation=_CITATION,
            homepage='https://scikit-learn.org/stable/datasets/toy_dataset.html')

    def _split_generators(self, dl_manager):
        del dl_manager
        return {name: self._generate_examples(*bounds) for name, bounds in _SPLITS.items()}

    def _generate_examples(self, begin: float, end: float):
        """Yields (index in scikit-learn's order, example) of the share begin..end of every class."""
        from sklearn.datasets import load_digits
        digits = load_digits()
        pictures = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
        for label in range(10):
            members = np.random.RandomState(label).permutation(np.flatnonzero(digits.target == label))
            for index in members[round(begin * len(members)):round(end * len(members))]:
                yield int(index), {'image': pictures[index], 'label': label}
