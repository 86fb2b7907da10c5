"""What several tests of deployment read."""

import pytest

from practicum.deployment.export import export_run
from practicum.inference.run import Run


@pytest.fixture(scope='session')
def exported(trained_run, tmp_path_factory):
    """An exported MLP on digits. Tests only read it."""
    file = tmp_path_factory.mktemp('exported') / 'digits.zip'
    export_run(Run(trained_run), file, platforms=('cpu',))
    return file
