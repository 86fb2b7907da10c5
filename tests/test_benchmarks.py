"""Benchmarks are run by hand and rarely: that they can be imported is tested, so that they do not rot unseen."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

SCRIPTS = sorted(path.stem for path in (ROOT / 'benchmarks').glob('*.py'))


@pytest.mark.thorough
def test_every_benchmark_can_be_imported():
    code = 'import importlib, sys; sys.path[:0] = sys.argv[1:3]; list(map(importlib.import_module, sys.argv[3:]))'
    done = subprocess.run([sys.executable, '-c', code, str(ROOT), str(ROOT / 'benchmarks'),
                           *(f'benchmarks.{name}' for name in SCRIPTS)], capture_output=True, text=True, cwd=ROOT)
    assert len(SCRIPTS) > 10 and done.returncode == 0, done.stderr
