"""A trained run, loaded: the one place where a checkpoint becomes a config, a task and a model."""

import dataclasses
import functools
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np

from .. import models, tasks
from ..common.errors import UserError, some
from ..common.vocabulary import END
from ..input_pipeline import dicom, image_search, preprocessing, sounds
from ..input_pipeline.views import Views
from ..tasks.detection import Detection
from ..tasks.prediction import Prediction
from ..tasks.text.continuation import continue_texts
from ..training import checkpoints, components, evaluation_sets, forward
from ..training import config as config_lib
from ..training.evaluation import Evaluation, Evaluations, evaluate
from ..training.parallel import Parallel
from ..training.step import VARIABLES, apply_model
from . import arrays, tiles
from .explanation import Explainer, Explanation
from .heat_map import HeatMap, HeatMapMaker
from .image_reader import ImageReader
from .network import Network
from .rcnn import RegionNetwork
from .rows import row_shape
from .text_reader import encode

_OWN_BYTES = 2**28  # of images kept in their own size until their batch is predicted
_WORDS = ('tokens', 'lowercase', 'min_count', 'max_size')
_VOCABULARY = (
    'text.vocabulary_from', *(f'{section}.{field}' for section in ('text', 'text.source') for field in _WORDS))
_MOST = {'length': 100_000, 'samples': 10_000, 'beam_size': 1000}
_COLDEST = 1e-3  # colder ones divide logits by next to nothing


class Run:
    """A checkpoint of a run with all that is needed to use it.

        run = practicum.load('runs/digits_lenet')
        run.predict('digit.png')
        logits = run.model.apply(run.variables, run.preprocess(array))

    Args:
      workdir: of the run.
      step: 'best' (the last where no metric ranks them), 'last' or a number.
      overrides: changes to the config, 'task.decisions=...', as on the command line without '--config.'.

    Attributes:
      workdir, step: where it comes from; a Path and an int.
      config: as the run was trained, and with the overrides; a locked ConfigDict.
      info: what is known of the data it was trained on.
      class_names: of labels or mask values in their order, () for data without.
      task: see tasks/task.py; None for a body without a head.
      model: the flax module, for one device.
      variables: {'params', 'batch_stats'} for `model.apply`: the moving averages where they were kept.
      metrics: of this step, as far as it was evaluated, by flat names such as 'validation/accuracy'.
      meta: the checkpoint's meta data as saved, see training/checkpoints.py.

    Raises:
      UserError: no such checkpoint, a damaged one, or an override that does not fit.
    """

    def __init__(self, workdir: str | Path, step: str | int = 'best', *, overrides: Sequence[str] = ()):
        self.workdir, self._asked, self._overrides = Path(workdir).expanduser(), str(step), tuple(overrides)
        checkpoint = checkpoints.read(self.workdir, step)
        self.step, self.meta, self.info = checkpoint.step, checkpoint.meta, checkpoint.info
        self.config = config_lib.from_dict(self.meta['config'])
        for override in overrides:
            if override.partition('=')[0] in _VOCABULARY:
                raise UserError(f'--config.{override}: the vocabulary is in the checkpoint')
            config_lib.apply_override(self.config, override)
        self.class_names = tuple(self.info.class_names or ())
        self.metrics = dict(self.meta.get('metrics', {}))
        self.variables = jax.device_put(checkpoint.variables)
        if self.info.class_names == ():  # no head, no classes, no task; the number is that of a head that is not run
            self.task = None
            self.model = models.build(self.config.model, precision=self.config.precision, num_classes=1)
        else:
            self.task = tasks.build(self.config.task, self.info)
            self.model = forward.build_model(self.config, self.task)
        self._networks: dict[str, Network] = {}
        self._heat_maps: dict[tuple[bool, int], HeatMapMaker] = {}

    def __repr__(self) -> str:
        return f'<Run {self.config.experiment}: {self.chosen} of {self.workdir}>'

    @property
    def chosen(self) -> str:
        """The step in words: 'step 1,180 (best)'."""
        why = '' if self._asked.isdecimal() else f' ({self._asked})'
        if self._asked == 'best' and self.meta.get('score') is None:
            why = ' (last; no metric ranks a best one)'
        return f'step {self.step:,}{why}'

    @property
    def feature(self) -> str:
        """What the model looks at: 'image', the feature of a table, such as 'x', or 'tokens' of texts with a class or a
        translation; 'text' for language models."""
        if self.config.task.name == 'language_model':
            return 'text'
        return 'image' if self.task is None or 'image' in self.task.input_features else self.task.input_features[0]

    @property
    def takes_sounds(self) -> bool:
        """Whether it was trained on sounds, their spectrograms or their waves: it predicts WAV files."""
        return self.config.data.source == 'sounds'

    @property
    def takes_any_floats(self) -> bool:
        """Whether it was trained on arrays of floats whose range config.image.mean and std give."""
        image = self.config.image
        return self.config.data.source == 'npz' and (any(image.mean) or any(std != 1 for std in image.std))

    @property
    def longest_text(self) -> int:
        """Words of a text that the model takes."""
        return (self.config.text.source if self.task.generates else self.config.text).max_length

    def check_files(self) -> None:
        """Raises UserError unless it predicts files of images or of sounds."""
        if not self.takes_sounds:
            self.check_images()

    def check_images(self) -> None:
        """Raises UserError unless the model looks at images."""
        if self.feature == 'text':
            raise UserError(f'{self.workdir} is a language model, it looks at no images: use launch.py generate')
        if self.feature == 'tokens':
            raise UserError(f'{self.config.experiment} in {self.workdir} reads texts, it cannot look at images: use '
                            'launch.py predict with a text')
        if self.feature == 'story':
            raise UserError(f'{self.workdir} answers questions about stories, it looks at no images: give launch.py '
                            'predict a text file')
        if self.feature == 'centre':
            raise UserError(f'{self.workdir} has learned vectors of words, it looks at no images: use launch.py '
                            'neighbors --words')
        if self.feature != 'image':
            numbers = 'the waves of sounds' if self.takes_sounds else 'numbers'
            raise UserError(f'{self.config.experiment} in {self.workdir} was trained on {numbers}, it cannot look at '
                            'images')

    def preprocess(self, inputs: Any) -> np.ndarray:
        """Returns images as the model takes them: resized and normalised as the config says.

        Args:
          inputs: as for `predict`.

        Returns:
          float32 [n, (frames,) height, width, channels].
        """
        self.check_images()
        network = self.network()
        if isinstance(network, RegionNetwork):
            raise UserError(f'{self.workdir} looks at regions of images: predict finds them')
        fitted = [network.fit(image) for _, image, _ in self._examples(network, inputs)]
        shape = (0, *((network.frames,) * (network.frames > 1)), *network.size, network.channels)
        batch = np.stack(fitted) if fitted else np.zeros(shape, np.uint8)
        return np.asarray(preprocessing.build(self.config.image, info=self.info)({'image': batch}, None)['image'])

    def predict(self, inputs: Any, *, top_k: int = 3, tta: str = 'none', tile: int = 0) -> list[dict[str, Any]]:
        """Predicts images, texts, or rows of a table.

        Args:
          inputs: a path of an image or of a folder of images, or a list of them; or images as arrays, one or several,
            of any size, see `arrays.to_images`; for a run on a table numbers [n, columns], for one on sounds paths of
            WAV files, and for one on texts a text or a list of them.
          top_k: how many classes to return of each.
          tta: test-time augmentation, see input_pipeline/views.py.
          tile: of a detector, the side in pixels of parts of an image that are looked at one by one, for small objects
            in large images, see tiles.py; 0: only the whole image, made as large as those of training.

        Returns:
          For each image a dict: 'file' where it was one, or the 'text', and what the task predicts, such as 'classes'
          and 'percent'. What the command line writes as files is there under 'arrays', such as 'mask', uint8 [height,
          width].

        Raises:
          UserError: inputs that cannot be read or could mean two things, or a run that predicts nothing.
        """
        network = self.network(tta)
        rows = []
        for file, prediction in self.predictions(network, self._examples(network, inputs), top_k, tile=tile):
            named = 'text' if self.feature == 'tokens' else 'file'
            rows.append(({} if file is None else {named: str(file)}) | prediction.row)
            if prediction.files:
                rows[-1]['arrays'] = {Path(name).stem: values for name, values in prediction.files.items()
                                      if values is not None}
        return rows

    def heat_map(self, image: Any, *, scale: float = 1.0, windows: bool = False, stride: int = 0) -> HeatMap:
        """Returns what a classifier says of every window of an image, in the size of those it was trained on.

        Args:
          image: one, as for `predict`, of any size.
          scale: by which it is resized before: windows are of config.image.size.
          windows, stride: to cut windows out instead of net surgery, see heat_map.py.

        Raises:
          UserError: no image, several of them, or a run that is no classifier of images.
        """
        maker = self.heat_map_maker(windows=windows, stride=stride)
        found = list(self._examples(self.network(), image))
        if len(found) != 1:
            raise UserError(f'a heat map is of one image, these are {len(found)}')
        return maker(found[0][1], scale)

    @functools.cached_property
    def explainer(self) -> Explainer:
        """What is behind `explain`; it also has the filters, and the images that units respond to most."""
        return Explainer(self)

    def explain(self, inputs: Any, *, class_name: str | None = None, endpoint: str = '', patch: int = 0
                ) -> list[Explanation]:
        """Returns feature maps of images and where they show a class: Grad-CAM and occlusion.

        Args:
          inputs: as for `predict`.
          class_name: what to look for; None for the likeliest class of each image.
          endpoint: whose feature map Grad-CAM looks at; '' for the last convolution.
          patch: side in pixels of the squares that are hidden for occlusion; 0 for a sixth of the image.

        Raises:
          UserError: a run that does not look at images, or no such class or endpoint, or one without a grid.
        """
        how = {'class_name': class_name, 'endpoint': endpoint, 'patch': patch}
        self.explainer.check(**how)
        return [dataclasses.replace(self.explainer.explain(image, **how), file=file)
                for file, image, _ in self._examples(self.explainer.reader, inputs)]

    def heat_map_maker(self, *, windows: bool = False, stride: int = 0) -> HeatMapMaker:
        """Returns what is behind `heat_map`, which remembers what it has compiled."""
        key = windows, stride
        if key not in self._heat_maps:
            self._heat_maps[key] = HeatMapMaker(self, windows=windows, stride=stride)
        return self._heat_maps[key]

    def network(self, tta: str = 'none') -> Network:
        """Returns the compiled function behind `predict`, which remembers what it has compiled.

        Raises:
          UserError: the run predicts nothing, or its task cannot combine views.
        """
        if tta in self._networks:
            return self._networks[tta]
        if self.feature == 'text':
            self.check_images()
        if self.task is None:
            raise UserError(f'{self.workdir} is a body without a head, it predicts nothing: train a head on it with '
                            '--config.init_from.workdir, or compare images with launch.py embed')
        views = Views(tta, self.config.image.size)
        if views.count > 1 and self.takes_sounds:
            raise UserError(f"--tta {tta}: {self.workdir} was trained on sounds, which mean something else backwards: "
                            "they take 'none' alone")
        if views.count > 1 and (self.task.generates or self.feature != 'image'):
            raise UserError(f"--tta {tta}: {self.config.task.name} takes 'none' alone")
        if isinstance(self.task, tasks.RegionDetection):
            if views.count > 1:
                raise UserError(f"--tta {tta}: region_detection takes 'none' alone")
            self._networks[tta] = RegionNetwork(self)
            return self._networks[tta]
        if self.task.generates:
            apply = functools.partial(self.task.generate, self.model)
        elif len(self.task.input_features) > 1:
            raise UserError(f'{self.workdir} needs {", ".join(self.task.input_features)} together: use .model and '
                            '.variables')
        else:
            whole = forward.in_views(self.model, self.task, views) if views.count > 1 else (
                apply_model(self.model, self.task))

            def apply(variables, batch):
                return self.task.decode(whole(variables, batch, train=False))
        self._networks[tta] = Network(self, apply, feature=self.feature, views=views)
        return self._networks[tta]

    def predictions(self, network: Network, examples: Iterable[tuple[Any, np.ndarray, Mapping[str, Any]]],
                    top_k: int, *, tile: int = 0) -> Iterator[tuple[Any, Prediction]]:
        """Yields (key, prediction), batch by batch.

        Args:
          network: of this run.
          examples: (key, image in its own size or row of a table, what is known of it).
          top_k, tile: see `predict`.
        """
        if top_k < 1:
            raise UserError(f'--top_k {top_k}: it must be at least 1')
        if tile:
            yield from self._tiled(network, examples, tile)
            return
        waiting: list[tuple[Any, np.ndarray, Mapping[str, Any]]] = []
        fitted: list[np.ndarray] = []
        own_bytes = 0

        def finish() -> Iterator[tuple[Any, Prediction]]:
            for (key, image, metadata), output in zip(waiting, self._outputs(network, np.stack(fitted))):
                yield key, self.task.predict(output, image, metadata, top_k)

        for key, image, metadata in examples:
            fitted.append(network.fit(image))
            # Images in their own size take a hundred times the memory: only what is written in that size needs them.
            waiting.append((key, arrays.as_uint8(image) if self.task.writes_files else fitted[-1], metadata))
            own_bytes += waiting[-1][1].nbytes
            if len(waiting) == network.batch_size or own_bytes > _OWN_BYTES:
                yield from finish()
                waiting, fitted, own_bytes = [], [], 0
        if waiting:
            yield from finish()

    def _tiled(self, network: Network, examples: Iterable[tuple[Any, np.ndarray, Mapping[str, Any]]], tile: int
               ) -> Iterator[tuple[Any, Prediction]]:
        """Yields predictions of images that are looked at in parts."""
        if not isinstance(self.task, Detection):
            raise UserError(f'--tile {tile} is for detectors; the task of {self.workdir} is {self.config.task.name}')
        if tile < max(network.size) // 4:
            raise UserError(f'--tile {tile}: parts of so few pixels would be enlarged to {network.size[0]}x'
                            f'{network.size[1]}; take at least {max(network.size) // 4}')
        for key, image, _ in examples:
            parts = tiles.tiles_of(*image.shape[:2], tile)
            outputs = []
            for begin in range(0, len(parts), network.batch_size):
                batch = [network.fit(image[part]) for part in parts[begin:begin + network.batch_size]]
                outputs += self._outputs(network, np.stack(batch))
            found = tiles.merge(outputs, parts, network.size, self.task.overlap)
            yield key, self.task.say(found, arrays.as_uint8(image))

    def _outputs(self, network: Network, batch: np.ndarray) -> list[Any]:
        try:
            return network.outputs(batch)
        except flax.errors.FlaxError as error:
            if self.feature == 'image' and not self._overrides:
                raise
            wanted = None if self.feature == 'image' else row_shape(self, network)
            if wanted is not None and wanted != batch.shape[1:]:
                raise UserError(f'{self.workdir} takes examples of the shape {list(wanted)}, not '
                                f'{list(batch.shape[1:])}') from error
            raise UserError(f'{list(batch.shape)} does not fit: {_reason(error)}') from error

    def _examples(self, network: ImageReader, inputs: Any) -> Iterator[tuple[Path | None, np.ndarray, dict[str, Any]]]:
        """Yields (file, image in its own size or row, metadata) of what `predict` takes; file is None for arrays."""
        paths = [inputs] if isinstance(inputs, (str, Path)) else inputs
        if self.feature == 'tokens':
            for text in paths:
                if not isinstance(text, str):
                    raise UserError(f'{self.workdir} reads texts: give a str, or a list of them')
                yield text, encode(self, text), {'text': text}
        elif isinstance(paths, (list, tuple)) and paths and all(isinstance(path, (str, Path)) for path in paths):
            self.check_files()
            for path in paths:
                for file in image_search.find_images(Path(path).expanduser(), network.suffixes):
                    yield file, network.read_file(file), metadata_of(file)
        elif self.feature == 'image':
            for image in arrays.to_images(inputs, network.channels, network.frames, any_range=self.takes_any_floats):
                yield None, image, {}
        else:
            known = self.config.data.arrays.get(self.feature)
            shape = None if known is None else np.shape(known)[1:]
            if self.takes_sounds:
                shape = sounds.length_of(self.config.image.sound),
            for row in arrays.to_rows(inputs, shape):
                yield None, row, {}

    def generate(self, prompts: str | Sequence[str] = '', *, length: int = 50, samples: int = 1,
                 temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, beam_size: int = 0, seed: int = 0
                 ) -> list[dict[str, str]]:
        """Continues texts with a language model; tokens that it does not know are named in the log.

        Args:
          prompts: one beginning or several; '' for the beginning of a line.
          length: words, or characters, to write.
          samples: texts for each prompt.
          temperature, top_k, top_p, beam_size: see tasks/text/continuation.py.
          seed: of the random numbers.

        Returns:
          For each text 'prompt', 'continuation', and both of them as 'text'.

        Raises:
          UserError: this is no language model, or a number is out of its range.
        """
        if self.feature != 'text':
            raise UserError(f'{self.config.experiment} in {self.workdir} is no language model, its task is '
                            f'{self.config.task.name}: use launch.py predict')
        check_numbers(length=length, samples=samples, temperature=temperature, beam_size=beam_size, seed=seed)
        if beam_size and (samples, temperature, top_k, top_p, seed) != (1, 1.0, 0, 1.0, 0):
            raise UserError('--beam_size searches the most probable text: leave it out to draw with --samples, '
                            '--temperature, --top_k, --top_p, --seed')
        if samples > 1 and (temperature == 0 or top_k == 1):
            logging.warning('warning: the most probable text is always the same: all %d --samples of %s are', samples,
                            'a --temperature of 0' if temperature == 0 else '--top_k 1')
        vocabulary = self.task.vocabulary
        write = jax.jit(functools.partial(continue_texts, self.model, length=length, temperature=temperature,
                                          top_k=top_k, top_p=top_p, beam_size=beam_size))
        rows = []
        for number, prompt in enumerate([prompts] if isinstance(prompts, str) else prompts):
            lines = prompt.split('\n')
            unknown = list(dict.fromkeys(token for line in lines for token in vocabulary.unknown(line)))
            if unknown:
                logging.warning('warning: the model does not know %s: read as <unk>', some(list(map(repr, unknown))))
            ids = [END]  # the line before has ended
            for index, line in enumerate(lines):
                ids += vocabulary.encode(line) + ([END] if index < len(lines) - 1 else [])
            repeated = jnp.tile(jnp.asarray(ids, jnp.int32), (samples, 1))
            key = jax.random.fold_in(jax.random.key(seed), number)
            # Character models go on in the middle of a word, word models after it.
            gap = ' ' if prompt and not prompt[-1].isspace() and vocabulary.kind != 'characters' else ''
            for tokens in np.asarray(write(self.variables, repeated, key)).tolist():
                text = vocabulary.decode_lines(tokens)
                rows.append({'prompt': prompt, 'continuation': text, 'text': f'{prompt}{gap}{text}'})
        return rows

    def evaluate(self, sets: Sequence[str] = ()) -> dict[str, Evaluation]:
        """Scores the run on evaluation sets of its config, on all devices of this machine.

        Args:
          sets: names in config.evaluation.sets; all final and periodic ones by default.

        Returns:
          set -> what was found there; `.metrics` of it, or `.scalars()`.

        Raises:
          UserError: no such set, data that are not there, or overrides that do not fit the checkpoint.
        """
        config = self.config.copy_and_resolve_references()
        config.parallel.devices = 0  # those of this machine, not of the one it was trained on
        config.parallel.sharding, config.parallel.sharding_rules = 'replicated', ()
        config.cached_features.endpoint = ''  # once through the whole model costs no more
        for override in self._overrides:
            config_lib.apply_override(config, override)
        sets = (sets,) if isinstance(sets, str) else tuple(sets)
        evaluation_sets.check_added(config.evaluation.sets, set(self.meta['config']['evaluation']['sets']), sets)
        if self._overrides:
            components.check_fields(config)
        sets = sets or tuple(dict.fromkeys((*config.evaluation.final, *config.evaluation.periodic)))
        if not sets:
            raise UserError(f'{config.experiment} has no evaluation sets')
        if self.task is None:
            raise UserError(f'{self.workdir} is a body without a head: there is nothing to score')
        parallel = Parallel(config.parallel)
        evaluations = Evaluations(config, parallel, self.task, self.info, sets)
        variables = parallel.place(jax.device_get(self.variables), VARIABLES)
        try:
            return {name: evaluate(evaluations, name, variables) for name in sets}
        except flax.errors.FlaxError as error:
            if not self._overrides:
                raise
            read = self.meta['config']['text']['max_sentences']
            if config.text.max_sentences != read:
                raise UserError(f'--config.text.max_sentences={config.text.max_sentences}: the model was trained to '
                                f'read at most {read} sentences, and has weights for each of them: leave it out'
                                ) from error
            raise UserError(f'the checkpoint does not fit the overrides: {_reason(error)}') from error


def metadata_of(file: Path) -> dict[str, Any]:
    """Returns what an image file says of itself beyond its pixels: 'spacing_mm', None where it is not known."""
    return {'spacing_mm': dicom.pixel_spacing(file) if dicom.is_dicom(file) else None}


def check_numbers(*, length: int, temperature: float, samples: int = 1, beam_size: int = 0, seed: int = 0) -> None:
    """Raises UserError unless numbers that say how a text is written are in their ranges."""
    numbers = {'length': length, 'temperature': temperature, 'samples': samples, 'beam_size': beam_size, 'seed': seed}
    for name in ('length', 'samples'):
        if numbers[name] < 1:
            raise UserError(f'--{name} {numbers[name]}: it must be at least 1')
    if not math.isfinite(numbers['temperature']):
        raise UserError(f"--temperature {numbers['temperature']}: it must be a finite number, at least 0")
    if 0 < numbers['temperature'] < _COLDEST:
        raise UserError(f"--temperature {numbers['temperature']}: it must be 0 or at least {_COLDEST}")
    if numbers['beam_size'] < 0:
        raise UserError(f"--beam_size {numbers['beam_size']}: it must be at least 1, or 0 to draw")
    for name, most in _MOST.items():
        if numbers[name] > most:
            raise UserError(f'--{name} {numbers[name]}: it must be at most {most:,}')
    if not 0 <= numbers['seed'] < 2**32:
        raise UserError(f"--seed {numbers['seed']}: it must be in [0, 2**32)")


def _reason(error: Exception) -> str:
    return ' '.join(str(error).partition(' (https:')[0].split())
