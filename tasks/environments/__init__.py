"""Environments for reinforcement learning. Add one: a file here with a subclass of `Environment`, and a line below."""

from ...common.errors import UserError, nearest
from .breakout import Breakout
from .cartpole import CartPole
from .environment import Environment

__all__ = ['ENVIRONMENTS', 'Environment', 'build']

ENVIRONMENTS: dict[str, type[Environment]] = {
    'breakout': Breakout,
    'cartpole': CartPole,
}


def build(name: str) -> Environment:
    """Returns the environment of a name. Raises UserError if there is none."""
    if name not in ENVIRONMENTS:
        raise UserError(f'config.task.environment = {name!r}; {nearest(str(name), list(ENVIRONMENTS))}')
    return ENVIRONMENTS[name]()
