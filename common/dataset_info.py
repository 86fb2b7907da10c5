"""What is known of a data set, beyond its examples."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """Facts about a data set that tasks build on; they travel in checkpoints as JSON.

    Attributes:
      features: names of the features of an example, such as ('image', 'label'); () where they are not known, as in
        checkpoints of earlier versions.
      class_names: of labels or mask values, in their order; None for data without classes, () for a model without head.
      class_counts: training examples of each class; None where a task does not need them.
      targets: how many numbers an example's target 'y' holds; None for data without.
      frames: images of a video; 1 for single images.
      input_size: (height, width) of the images whose pixels boxes are in; None for data without boxes.
      vocabulary: of texts, see `Vocabulary.to_meta`.
      caption_length: words of the longest caption.
      tokens_per_example: mean number of scored tokens of an example's captions.
      stream: tokens, window length and checksum of a text that is read as one stream.
      whitening: learned from the training images, see input_pipeline/whitening.py; None where they are not whitened.
      other: what the data set itself tells beyond that, such as 'grammar' or 'contour_origin'.
    """
    features: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None
    class_counts: tuple[int, ...] | None = None
    targets: int | None = None
    frames: int = 1
    input_size: tuple[int, int] | None = None
    vocabulary: Mapping[str, Any] | None = None
    caption_length: int | None = None
    tokens_per_example: float | None = None
    stream: Mapping[str, Any] | None = None
    whitening: Mapping[str, Any] | None = None
    other: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def replace(self, **changes: Any) -> 'DatasetInfo':
        """Returns a copy with other fields."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        """Returns a flat dict that JSON can hold; what is not known is left out."""
        known = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)
                 if field.name != 'other' and getattr(self, field.name) != field.default}
        return {**self.other, **{name: list(value) if isinstance(value, tuple) else value
                                 for name, value in known.items()}}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> 'DatasetInfo':
        """Returns what `to_json` was called on, also from what versions before this class wrote."""
        names = {field.name for field in dataclasses.fields(cls)} - {'other'}
        known = {name: tuple(value) if isinstance(value, list) else value
                 for name, value in values.items() if name in names}
        return cls(**known, other={name: value for name, value in values.items() if name not in names})
