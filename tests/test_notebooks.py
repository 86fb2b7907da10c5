"""The notebooks of docs/notebooks run from top to bottom, in a folder where their run is trained already."""

from pathlib import Path

import nbclient
import nbformat
import pytest

from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / 'docs' / 'notebooks').glob('*.ipynb'))


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, trained_run, tmp_path, monkeypatch):
    (tmp_path / 'runs').mkdir()
    (tmp_path / 'runs' / 'digits').symlink_to(trained_run)
    (tmp_path / 'installed').mkdir()
    (tmp_path / 'installed' / 'practicum').symlink_to(ROOT)  # as `pip install -e .` does
    monkeypatch.setenv('PYTHONPATH', str(tmp_path / 'installed'))
    for name in ('IPYTHONDIR', 'JUPYTER_RUNTIME_DIR', 'JUPYTER_DATA_DIR', 'JUPYTER_CONFIG_DIR'):
        monkeypatch.setenv(name, str(tmp_path / 'jupyter'))
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(notebook, timeout=180, kernel_name='python3',
                            resources={'metadata': {'path': str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get('outputs', ())]
    assert any('image/png' in output.get('data', {}) for output in outputs)
    assert [output for output in outputs if output.get('name') == 'stderr'] == []


def test_there_is_a_notebook():
    assert NOTEBOOKS
