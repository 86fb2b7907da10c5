"""What a task is: the contract between the engine and a loss, its metrics and its predictions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from clu import metrics as clu_metrics

from ..common.dataset_info import DatasetInfo
from ..common.vocabulary import Vocabulary
from .metrics import Mean
from .prediction import Prediction


class Task:
    """What a model is trained for. A subclass needs `score`; everything else has a default.

        class Regression(Task):
            input_features = ('x',)

            def score(self, outputs, batch):
                return {'loss': (outputs - batch['y']) ** 2}

    A task knows losses, metrics, predictions and figures, and nothing of devices, files or how data are read.

    Args:
      config: mapping with 'name' and the task's `fields`; tasks/__init__.py checks their names.
      info: what is known of the data set.

    Attributes:
      fields: names of its fields in config.task, besides 'inputs', which replaces `input_features`.
      input_features: the features of a batch that are the model's positional inputs, in order.
      primary_metric: the metric to show first.
      needs_rng: whether batch['rng'] holds a PRNG key of every example, [batch]: new ones in every training step, the
        same ones in every evaluation. They depend on the seed, the step and the example's place in the global batch or
        in the evaluation set, and not on devices or batch sizes.
      noise_fields: fields of config.task that change images at random before the model sees them, see `given`.
      init_examples: how many training examples a model is initialised with, for those whose parameters begin at
        statistics of the data.
      takes_pixels: whether images must come as pixels in [0, 1], as config.image.mean = 0 and std = 1 leave them.
      takes_mixed_labels: whether `score` knows batch['mixed_label'] and batch['mix'], see input_pipeline/mixing.py.
      per_example: what looks at every evaluated example on the host; None: nothing does.
      writes_files: whether predictions come with files, such as masks.
      output_name: what the model's output is called where it leaves the project, if it is one array.
      figures_over_time: whether `model_figures` are drawn in every evaluation, and not just now and then.
      takes_top_k: whether `predict` tells as many alternatives as it is asked for.
      input_vocabulary: what texts that go in are read in; None where the inputs are no texts.
      train_metrics, eval_metrics: clu.metrics Collections over what `score` returns and 'mask'; the mean loss by
        default.
    """
    fields: tuple[str, ...] = ()
    input_features: tuple[str, ...] = ('image',)
    primary_metric: str = 'loss'
    needs_rng: bool = False
    init_examples: int = 1
    takes_pixels: bool = False
    noise_fields: tuple[str, ...] = ()
    takes_mixed_labels: bool = False
    per_example: 'PerExample | None' = None
    writes_files: bool = False
    figures_over_time: bool = False
    output_name: str = 'outputs'
    takes_top_k: bool = True
    input_vocabulary: Vocabulary | None = None

    def __init__(self, config: Mapping[str, Any], info: DatasetInfo):
        self.config, self.info = config, info
        if config.get('inputs'):
            self.input_features = tuple(config['inputs'])
        self.train_metrics = self.eval_metrics = clu_metrics.Collection.create(loss=Mean.from_output('loss'))

    def inputs(self, batch: Mapping[str, jax.Array]) -> tuple[Any, ...]:
        """Returns the model's positional inputs. Raises KeyError with the name of a feature that is missing."""
        return tuple(batch[name] for name in self.input_features)

    def model_fields(self) -> dict[str, Any]:
        """Returns fields of the model that follow from the data, such as num_classes."""
        return {}

    def score(self, outputs: Any, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Scores each example.

        Args:
          outputs: of the model.
          batch: features of the examples, as prepared for the model.

        Returns:
          Arrays [batch], or [batch, ...] that metrics take; the mean of 'loss' is what training minimises.
        """
        raise NotImplementedError

    def carried(self, outputs: Any) -> Any:
        """Returns what the next batch's rows find as batch['carry'], a pytree of [batch, ...]; {} for nothing."""
        del outputs
        return {}

    def initial_experience(self, variables: Mapping[str, Any], key: jax.Array) -> Any:
        """Returns what `collect` goes on from in the first step; computed on the device.

        Args:
          variables: of the model, as they were initialised.
          key: a PRNG key.
        """
        raise NotImplementedError

    def collect(self, apply: Callable, variables: Mapping[str, Any], experience: Any, batch: Mapping[str, jax.Array], *,
                step: jax.Array, key: jax.Array) -> tuple[dict[str, jax.Array], Any]:
        """Makes the batch to be learned from, for tasks whose data depend on what the model does.

        It is called on every device with the device's rows: what it does to the experience must be the same on all of
        them, by `models.batch_axis.share` and `join` where they divide the work.

        Args:
          apply: (variables, batch, train=False) -> outputs of the model.
          variables: of the model before this step.
          experience: what the step before returned, a pytree of arrays that is part of the state and of checkpoints.
          batch: rows of the data, which say how many rows are wanted; with 'rng' if the task `needs_rng`.
          step: steps done.
          key: a PRNG key, the same on all devices.

        Returns:
          The batch for `inputs` and `score`, of as many rows; and the experience after the step.
        """
        raise NotImplementedError

    @property
    def collects(self) -> bool:
        """Whether batches are made by `collect`."""
        return type(self).collect is not Task.collect

    def generate(self, model: Any, variables: Mapping[str, Any], batch: Mapping[str, jax.Array], *,
                 begin: str | None = None) -> dict[str, jax.Array] | None:
        """Returns arrays [batch, ...] made from each example, such as a text; None for tasks that make nothing.

        Evaluations add them to the model's outputs, and predictions are made of them.

        Args:
          model: the flax module.
          variables: its parameters and statistics.
          batch: as for `score`.
          begin: the endpoint whose value batch['features'] is; None where the batch has the model's inputs.
        """
        del model, variables, batch, begin
        return None

    @property
    def generates(self) -> bool:
        """Whether `generate` makes something."""
        return type(self).generate is not Task.generate

    def decode(self, outputs: Any) -> Any:
        """Returns what `predict` takes of the model's outputs, computed on the device: a pytree of [batch, ...]."""
        return outputs

    def combine_views(self, outputs: jax.Array) -> jax.Array | None:
        """Returns what several views of the same images say together, of [views, batch, ...]; for `--tta`."""
        del outputs
        return None

    @property
    def combines_views(self) -> bool:
        """Whether `combine_views` is known."""
        return type(self).combine_views is not Task.combine_views

    def predict(self, outputs: Any, image: np.ndarray, metadata: Mapping[str, Any], top_k: int) -> Prediction:
        """Returns the prediction for one example.

        Args:
          outputs: of `decode`, or what `generate` made, for this example.
          image: as it was read, uint8 [height, width, channels]: in its own size if the task `writes_files`, else in
            the model's; for tables the row.
          metadata: what is known of it, such as 'spacing_mm'.
          top_k: how many alternatives to tell.
        """
        raise NotImplementedError(f'{type(self).__name__} predicts nothing')

    def flatten(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a prediction's row as columns of a table."""
        return dict(row)

    def describe(self, row: Mapping[str, Any]) -> str:
        """Returns a prediction's row as one line."""
        return '   '.join(f'{key} : {value:g}' if isinstance(value, float) else f'{key} : {value}'
                          for key, value in row.items() if key != 'file')

    def figures(self, metrics: Mapping[str, Any], worst: Sequence[Mapping[str, Any]] = (),
                first: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        """Returns name -> matplotlib figure of an evaluation.

        Args:
          metrics: of the evaluation, arrays among them.
          worst, first: the worst examples, and the first of the set, where `per_example` looks at them: dicts with
            'example', 'outputs' and 'scores'.
        """
        del metrics, worst, first
        return {}

    @property
    def row_shape(self) -> tuple[int, ...] | None:
        """The shape of what a model that looks at no images looks at, where the task itself knows it."""
        return None

    def given(self, images: jax.Array, batch: Mapping[str, jax.Array]) -> jax.Array:
        """Returns what the model sees of images, of the same shape: themselves, unless one of `noise_fields` is on."""
        del batch
        return images

    def model_figures(self, model: Any, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Returns name -> matplotlib figure, `Animation` or `Frame`, drawn from the model alone: its samples."""
        del model, variables
        return {}

    def fit_figures(self, model: Any, variables: Mapping[str, Any], sets: Mapping[str, Mapping[str, np.ndarray]]
                    ) -> dict[str, Any]:
        """Returns name -> matplotlib figure of what the model makes of few numbers, such as a curve among points.

        It is asked for where the model's only input is 'x', after evaluations; the pictures become a film.

        Args:
          model: for one device.
          variables: on the host.
          sets: 'train' and the evaluated sets -> features of at most 1,000 of their examples.
        """
        del model, variables, sets
        return {}

    @property
    def fits_numbers(self) -> bool:
        """Whether there may be `fit_figures`."""
        return self.input_features == ('x',) and type(self).fit_figures is not Task.fit_figures

    def tables(self, metrics: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
        """Returns name -> rows, dicts of equal keys, each for a csv file."""
        del metrics
        return {}

    def samples(self, model: Any, variables: Mapping[str, Any], first: Sequence[Mapping[str, Any]]
                ) -> list[dict[str, Any]]:
        """Returns texts written now, to compare over time: dicts with 'text', and what is known of it.

        Args:
          model: for one device.
          variables: on the host.
          first: as for `figures`.
        """
        del model, variables, first
        return []


class PerExample:
    """Scores every evaluated example on the host, for a table of all of them and pictures of the worst.

    Attributes:
      metrics: names of what `summarize` returns.
    """
    metrics: tuple[str, ...] = ()

    def outputs(self, outputs: Any) -> dict[str, jax.Array]:
        """Returns the arrays [batch, ...] that `measure` needs, computed on the device."""
        raise NotImplementedError

    def measure(self, output: Mapping[str, np.ndarray], example: Mapping[str, np.ndarray],
                metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the scores of one example, which JSON can hold; arrays, too, where `listed` leaves them out.

        Args:
          output: of `outputs`.
          example: its features, as they were read.
          metadata: what the source knows of it, such as its file.
        """
        raise NotImplementedError

    def severity(self, scores: Mapping[str, Any]) -> float:
        """Returns what examples are ranked by; those with the highest are shown as the worst."""
        raise NotImplementedError

    def listed(self, scores: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what of an example's scores <set>_examples.json has; `severity` must do with it, too."""
        return dict(scores)

    def summarize(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Returns metrics over all examples: floats, and arrays for tables and figures."""
        del rows
        return {}
