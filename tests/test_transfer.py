"""experiments/transfer.py moves the layers that it says."""

import re

import flax
import pytest

from practicum import models
from practicum.experiments import transfer
from tests.models import networks


@pytest.fixture(scope='module')
def paths():
    """The parameters of the network, in the order of its layers."""
    model = models.build(transfer.get_config().model, num_classes=5)
    return set(flax.traverse_util.flatten_dict(networks.shapes_of(model, (1, 32, 32, 3))['params'], sep='/'))


@pytest.mark.parametrize('count', range(1, 1 + len(transfer.LAYERS)))
def test_the_first_layers_are_loaded_and_frozen(paths, count):
    expected = {path for path in paths if path.partition('/')[0] in transfer.LAYERS[:count]}
    for frozen in (True, False):
        config = transfer.transferred(count, 'runs/a', frozen)
        include, = config.init_from.include
        assert {path for path in paths if re.fullmatch(include, f'params/{path}')} == expected
        freeze = config.optimizer.freeze
        assert {path for path in paths if any(re.fullmatch(pattern, path) for pattern in freeze)} == (
            expected if frozen else set())
    assert {path.partition('/')[0] for path in paths - expected} >= {'logits'}


def test_donors_and_classes():
    """A and B share no class; each control begins with B, each transfer with A, and all learn the classes of B."""
    assert not set(transfer.A) & set(transfer.B) and len({*transfer.A, *transfer.B}) == 10
    of_b = transfer.b().data.merge_classes
    donors = {transfer.transferred: 'runs/transfer', transfer.fine_tuned: 'runs/transfer',
              transfer.selffer: 'runs/transfer-b', transfer.selffer_fine_tuned: 'runs/transfer-b'}
    for variant, donor in donors.items():
        config = variant()
        assert config.init_from.workdir == donor and config.data.merge_classes == of_b
        assert config.seed != transfer.get_config().seed, 'new layers must not begin where the donor did'
