"""Deep Q-learning: what every action is worth, learned from what happened when it was tried."""

from collections.abc import Callable, Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from clu import metrics as clu_metrics

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError, nearest
from ..models import batch_axis
from . import environments
from .animation import Animation
from .metrics import Mean
from .prediction import Prediction
from .replay import Replay
from .task import PerExample, Task

LOSSES = ('squared', 'huber')
_DEFAULTS = {'environment': 'cartpole', 'environments': 8, 'replay': 10_000, 'warmup': 1_000, 'exploration': 0.05,
             'exploration_steps': 10_000, 'discount': 0.99, 'double': True, 'loss': 'squared', 'target_every': 500}
_RECENT = 0.02  # weight of the latest episode in the mean return of training
_FRAMES = 250  # of the animated picture at most
_SHOWN = 12  # states on the sheet


@flax.struct.dataclass
class Experience:
    """What is kept between steps, beside the parameters that learn.

    Attributes:
      states: of the environments that are played in, [environments, ...].
      lengths, returns: steps and rewards of their episodes so far, int32 and float32 [environments].
      recent_return: mean return of the latest episodes, float32 scalar; 0 before the first has ended.
      replay: transitions: 'state', 'action', 'reward', 'ended', 'after'.
      target: the parameters that targets are computed with, those of some steps before.
    """
    states: Any
    lengths: jax.Array
    returns: jax.Array
    recent_return: jax.Array
    replay: Replay
    target: Any


class QLearning(Task):
    """Mnih et al. 2015, "Human-level control through deep reinforcement learning", with the targets of double
    Q-learning (van Hasselt et al. 2016).

    In every training step each environment takes one action: that of the highest value, or any, with a probability that
    falls from 1 to `exploration` in `exploration_steps`. The transitions go into the replay memory, of which the batch
    is drawn. The loss is the error of the value of the action taken, against

        reward + discount * Q(after, best action; target parameters)

    where no more than the reward is to come once an episode has ended. One that is cut off, at the environment's limit
    of steps, has not ended. The best action is that of the parameters that learn; without `double`, of the target's.

    What examples are made of are seeds (input_pipeline/seed_source.py). In training they only stand for the rows of the
    batch; in an evaluation each is an episode of its own, played greedily.

    Args:
      config: 'environment', a name of tasks/environments; 'environments', how many are played in; 'replay', transitions
        that are kept; 'warmup', transitions of random actions before the first step; 'exploration',
        'exploration_steps', 'discount' and 'double' as above; 'loss', 'squared' or 'huber', which learns the median
        where rewards are all alike, and so may never stop to rise; 'target_every', steps after which the target
        parameters become those that learn.
      info: 'features', among them 'seed'.

    Raises:
      UserError: no such environment, a field that does not fit, or data that are no seeds.
    """
    fields = tuple(_DEFAULTS)
    input_features = ('observation',)
    primary_metric = 'mean_return'
    needs_rng = True
    takes_top_k = False

    def __init__(self, config: Mapping[str, Any], info: DatasetInfo):
        super().__init__(config, info)
        chosen = _checked({field: config.get(field, default) for field, default in _DEFAULTS.items()})
        self.environment = environments.build(chosen['environment'])
        self.environments, self.capacity, self.warmup = chosen['environments'], chosen['replay'], chosen['warmup']
        self.exploration, self.exploration_steps = chosen['exploration'], chosen['exploration_steps']
        self.discount, self.double, self.loss = chosen['discount'], chosen['double'], chosen['loss']
        self.target_every = chosen['target_every']
        if info.features and 'seed' not in info.features:
            raise UserError("config.task.name = 'q_learning' makes its own examples: set config.data.source = 'seeds'")
        self.train_metrics = clu_metrics.Collection.create(
            loss=Mean.from_output('loss'), mean_value=Mean.from_output('value'),
            mean_return=Mean.from_output('recent_return'))
        self.eval_metrics = clu_metrics.Collection.create(
            mean_return=Mean.from_output('return'), mean_length=Mean.from_output('length'))
        self.per_example = Episodes()
        self._record = None

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of what is seen of a state."""
        return jax.eval_shape(lambda: self.environment.observe(self.environment.reset(jax.random.key(0)))).shape

    def model_fields(self) -> dict[str, Any]:
        """Returns the number of actions as that of the model's outputs."""
        return {'num_classes': len(self.environment.actions)}

    def inputs(self, batch: Mapping[str, jax.Array]) -> tuple[jax.Array]:
        """Returns observations, float32 [batch, ...]; of seeds, what is seen when their episodes begin."""
        if 'observation' not in batch:
            states = jax.vmap(lambda seed: self.environment.reset(jax.random.key(seed)))(batch['seed'])
            batch = {'observation': self._observe(states)}
        return super().inputs(batch)

    def _observe(self, states: Any) -> jax.Array:
        return jax.vmap(self.environment.observe)(states)

    # Training

    def initial_experience(self, variables: Mapping[str, Any], key: jax.Array) -> Experience:
        """Returns environments that have been played in at random, and their transitions; see `Task`."""
        begin, play = jax.random.split(key)
        states = self._reset(jax.random.split(begin, self.environments))
        nothing = jnp.zeros(self.environments)
        row = jax.tree.map(lambda leaf: leaf[0], states)
        flag = jax.ShapeDtypeStruct((), bool)
        replay = Replay.empty({'state': row, 'action': jnp.int8(0), 'reward': jnp.float32(0), 'ended': flag,
                               'after': row}, self.capacity)
        # The target takes over the parameters in the first step.
        experience = Experience(states, nothing.astype(jnp.int32), nothing, jnp.zeros(()), replay,
                                jax.tree.map(jnp.zeros_like, variables['params']))

        def act(experience: Experience, step: jax.Array) -> tuple[Experience, None]:
            keys = self._keys(jax.random.fold_in(play, step), jnp.arange(self.environments))
            return self._act(experience, jax.vmap(self._random_action)(keys[0]), keys[1], keys[2]), None
        return jax.lax.scan(act, experience, jnp.arange(-(-self.warmup // self.environments)))[0]

    def collect(self, apply: Callable, variables: Mapping[str, Any], experience: Experience,
                batch: Mapping[str, jax.Array], *, step: jax.Array, key: jax.Array
                ) -> tuple[dict[str, jax.Array], Experience]:
        """Acts once in every environment, and draws transitions from the replay memory; see `Task`.

        Returns:
          The batch: 'observation', float32 [batch, ...]; 'action', int8 [batch]; 'target', float32 [batch], what its
          value should be; 'recent_return', float32 [batch]. And the experience.
        """
        def values(params: Any, states: Any) -> jax.Array:
            return apply({**variables, 'params': params}, {'observation': self._observe(states)}, train=False)
        due = step % self.target_every == 0
        experience = experience.replace(target=jax.tree.map(
            lambda old, new: jnp.where(due, new, old), experience.target, variables['params']))
        # 1. Act: each device in its share of the environments.
        mine = batch_axis.share(self.environments)
        greedy = jnp.argmax(values(variables['params'], _rows(experience.states, mine)), axis=-1)
        greedy = batch_axis.join(greedy, self.environments)
        keys = self._keys(key, jnp.arange(self.environments))
        explores = jax.vmap(jax.random.uniform)(keys[3]) < self._exploration(step)
        actions = jnp.where(explores, jax.vmap(self._random_action)(keys[0]), greedy)
        experience = self._act(experience, actions, keys[1], keys[2])
        # 2. Remember: the rows of the batch are anything that happened lately.
        drawn = experience.replay.draw(batch['rng'])
        after = values(experience.target, drawn['after'])
        best = jnp.argmax(values(variables['params'], drawn['after']) if self.double else after, axis=-1)
        to_come = jnp.where(drawn['ended'], 0.0, jnp.take_along_axis(after, best[:, None], axis=-1)[:, 0])
        return {'observation': self._observe(drawn['state']), 'action': drawn['action'],
                'target': drawn['reward'] + self.discount * to_come,
                'recent_return': jnp.full(best.shape, experience.recent_return)}, experience

    def _exploration(self, step: jax.Array) -> jax.Array:
        """Returns the probability of a random action."""
        done = jnp.minimum(1.0, step / max(1, self.exploration_steps))
        return 1 + done * (self.exploration - 1)

    def _random_action(self, key: jax.Array) -> jax.Array:
        return jax.random.randint(key, (), 0, len(self.environment.actions))

    def _reset(self, keys: jax.Array) -> Any:
        return jax.vmap(self.environment.reset)(keys)

    @staticmethod
    def _keys(key: jax.Array, places: jax.Array) -> jax.Array:
        """Returns four keys for each environment, [4, environments]."""
        return jax.vmap(lambda place: jax.random.split(jax.random.fold_in(key, place), 4), out_axes=1)(places)

    def _act(self, experience: Experience, actions: jax.Array, step_keys: jax.Array, reset_keys: jax.Array
             ) -> Experience:
        """Returns the experience after an action in each environment; episodes that are over begin anew."""
        after, rewards, ended = jax.vmap(self.environment.step)(experience.states, actions, step_keys)
        lengths, returns = experience.lengths + 1, experience.returns + rewards
        over = ended | (lengths >= self.environment.limit)
        replay = experience.replay.add({'state': experience.states, 'action': actions.astype(jnp.int8),
                                        'reward': rewards, 'ended': ended, 'after': after})
        number = jnp.sum(over)
        mean = jnp.sum(returns * over) / jnp.maximum(number, 1)
        weight = jnp.where(experience.recent_return == 0, number > 0, 1 - (1 - _RECENT) ** number)
        states = jax.tree.map(lambda new, old: jnp.where(_like(over, old), new, old), self._reset(reset_keys), after)
        return experience.replace(
            states=states, lengths=jnp.where(over, 0, lengths), returns=jnp.where(over, 0, returns),
            recent_return=experience.recent_return + weight * (mean - experience.recent_return), replay=replay)

    def score(self, outputs: Any, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Scores transitions in training, and episodes in evaluations.

        Args:
          outputs: values, float32 [batch, actions]; or what `generate` returns.
          batch: see `collect`; or any.

        Returns:
          'loss'; 'value', of the action taken; and 'recent_return'. Or 'return' and 'length'. Each float32 [batch].
        """
        if isinstance(outputs, Mapping):
            return {'return': outputs['return'], 'length': outputs['length'].astype(jnp.float32)}
        actions = len(self.environment.actions)
        if outputs.shape[1:] != (actions,):
            raise UserError(f'config.task.name: q_learning takes one value for each of {actions} actions, this model '
                            f'gives {list(outputs.shape[1:])}: another config.model')
        value = jnp.take_along_axis(outputs, batch['action'][:, None].astype(jnp.int32), axis=-1)[:, 0]
        error = value - batch['target']
        loss = error ** 2 if self.loss == 'squared' else optax.huber_loss(error)
        return {'loss': loss, 'value': value, 'recent_return': batch['recent_return']}

    # Evaluation

    def generate(self, model: Any, variables: Mapping[str, Any], batch: Mapping[str, jax.Array], *,
                 begin: str | None = None) -> dict[str, jax.Array]:
        """Returns 'return', float32 [batch], and 'length', int32 [batch], of an episode of each seed: greedy play.

        Observations, which predictions are made of, are no episodes: 'values', float32 [batch, actions].
        """
        del begin
        if 'seed' not in batch:
            return {'values': model.apply(variables, *self.inputs(batch), train=False)}
        keys = jax.vmap(jax.random.key)(batch['seed'])
        states = self._reset(keys)

        def play(playing: tuple) -> tuple:
            step, states, returns, lengths, over = playing
            states, rewards, ended = self._greedy_step(model, variables, states, keys, step)
            returns, lengths = returns + jnp.where(over, 0, rewards), lengths + ~over
            return step + 1, states, returns, lengths, over | ended | (lengths >= self.environment.limit)
        zeros = jnp.zeros(len(keys))
        found = jax.lax.while_loop(lambda playing: ~playing[-1].all(), play,
                                   (0, states, zeros, zeros.astype(jnp.int32), zeros > 0))
        return {'return': found[2], 'length': found[3]}

    def _greedy_step(self, model: Any, variables: Mapping[str, Any], states: Any, keys: jax.Array, step: jax.Array
                     ) -> tuple[Any, jax.Array, jax.Array]:
        values = model.apply(variables, self._observe(states), train=False)
        chances = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, step)
        return jax.vmap(self.environment.step)(states, jnp.argmax(values, axis=-1), chances)

    def predict(self, outputs: Mapping[str, np.ndarray], image: np.ndarray, metadata: Mapping[str, Any], top_k: int
                ) -> Prediction:
        """Returns the 'action' to take where an observation is made, and the value of each."""
        del image, metadata, top_k
        values = dict(zip(self.environment.actions, np.asarray(outputs['values'], float).tolist(), strict=True))
        return Prediction({'action': max(values, key=values.get), **{f'value_{name}': value
                                                                     for name, value in values.items()}})

    def model_figures(self, model: Any, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Returns 'episode', one that is played greedily, to be seen in motion, and 'frames', some of its states."""
        if self._record is None:  # compiled once for all evaluations
            self._record = jax.jit(lambda variables: self._play_and_draw(model, variables))
        frames, rewards, over = jax.device_get(self._record(variables))
        count = int(over.argmax()) + 1 if over.any() else len(over)
        frames, total = frames[:count + 1], np.concatenate([[0], np.cumsum(rewards[:count])])
        stride = -(-len(frames) // _FRAMES)
        return {'episode': Animation(frames[::stride], stride * self.environment.seconds),
                'frames': _sheet(frames, total)}

    def _play_and_draw(self, model: Any, variables: Mapping[str, Any]) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Returns frames, uint8 [limit + 1, height, width, 3], rewards and whether the episode ended, [limit] each."""
        keys = jax.random.key(0)[None]
        first = self._reset(keys)

        def play(states: Any, step: jax.Array) -> tuple:
            states, rewards, ended = self._greedy_step(model, variables, states, keys, step)
            return states, (self.environment.draw(_row(states)), rewards[0], ended[0])
        _, (frames, rewards, ended) = jax.lax.scan(play, first, jnp.arange(self.environment.limit))
        return jnp.concatenate([self.environment.draw(_row(first))[None], frames]), rewards, ended


class Episodes(PerExample):
    """Return and length of every episode."""
    metrics = ('min_return', 'max_return', 'std_return')

    def outputs(self, outputs: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Returns 'return' and 'length', [batch]."""
        return {name: outputs[name] for name in ('return', 'length')}

    def measure(self, output, example, metadata) -> dict[str, Any]:
        """Returns 'seed', a name, 'return' and 'length' of one episode."""
        del metadata
        return {'seed': str(example['seed']), 'return': float(output['return']), 'length': int(output['length'])}

    def severity(self, scores: Mapping[str, Any]) -> float:
        """Returns how bad an episode was."""
        return -scores['return']

    def summarize(self, rows) -> dict[str, Any]:
        """Returns the lowest and the highest return, and their standard deviation."""
        returns = np.array([row['return'] for row in rows])
        return {'min_return': float(returns.min()), 'max_return': float(returns.max()),
                'std_return': float(returns.std())}


def _checked(fields: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields. Raises UserError if one has a value that none can have."""
    for name, least in (('environments', 1), ('replay', 1), ('warmup', 1), ('exploration_steps', 0),
                        ('target_every', 1)):
        if type(fields[name]) is not int or fields[name] < least:
            raise UserError(f'config.task.{name} = {fields[name]!r}: it is a whole number, at least {least}')
    for name in ('exploration', 'discount'):
        if not isinstance(fields[name], (int, float)) or not 0 <= fields[name] <= 1:
            raise UserError(f'config.task.{name} = {fields[name]!r}: it is a number from 0 to 1')
    if not isinstance(fields['double'], bool):
        raise UserError(f"config.task.double = {fields['double']!r}: it is True or False")
    if fields['loss'] not in LOSSES:
        raise UserError(f"config.task.loss = {fields['loss']!r}; {nearest(str(fields['loss']), LOSSES)}")
    if fields['replay'] >= 2**31:
        raise UserError(f"config.task.replay = {fields['replay']:,}: it must be below {2**31:,}")
    if fields['replay'] < fields['environments']:
        raise UserError(f"config.task.replay = {fields['replay']}: it has no room for a transition of each of the "
                        f"config.task.environments = {fields['environments']}")
    return fields


def _rows(tree: Any, places: jax.Array) -> Any:
    return jax.tree.map(lambda leaf: leaf[places], tree)


def _row(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[0], tree)


def _like(mask: jax.Array, array: jax.Array) -> jax.Array:
    """Returns a mask [rows] with as many dimensions as an array [rows, ...]."""
    return mask.reshape(-1, *[1] * (array.ndim - 1))


def _sheet(frames: np.ndarray, total: np.ndarray):
    """Returns a figure of states, evenly over the episode, with the reward so far."""
    from matplotlib.figure import Figure
    chosen = np.unique(np.linspace(0, len(frames) - 1, _SHOWN).round().astype(int))
    height, width = frames.shape[1:3]
    columns = min(len(chosen), 4)
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(2.2 * columns, (2.2 * height / width + 0.35) * rows), layout='constrained')
    for place, number in enumerate(chosen, start=1):
        axes = figure.add_subplot(rows, columns, place)
        axes.imshow(frames[number], interpolation='nearest')
        axes.set_title(f'step {number}, return {total[number]:g}', fontsize=8)
        axes.axis('off')
    return figure
