"""Checkpoints are assets: what is read is what was saved, whatever happened to the disk or the process between."""

import errno
import json
import logging
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from practicum.common.errors import UserError
from practicum.training import checkpoint_meta, step_folders
from practicum.training import checkpoints as checkpoints_lib
from practicum.training.checkpoints import Checkpoints
from tests.conftest import ROOT
from tests.training.saved_trees import arrays_of, assert_holds, assert_intact, make_trees, save_steps


def data_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob('*') if path.is_file())


@pytest.fixture(scope='module')
def three_steps(tmp_path_factory) -> Path:
    """A workdir with steps 1, 2 and 3; copy it before changing it."""
    workdir = tmp_path_factory.mktemp('three_steps')
    save_steps(workdir, (1, 2, 3), keep=3)
    return workdir


@pytest.fixture
def workdir(three_steps, tmp_path) -> Path:
    return Path(shutil.copytree(three_steps, tmp_path / 'run'))


@pytest.fixture
def warnings(caplog):
    """Returns a function that returns the warnings so far."""
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records if record.name == 'root']


# Which steps stay


SCORES = {1: 0.5, 2: 0.9, 3: 0.1, 4: 0.3, 5: 0.2}


def test_latest_steps_and_the_best_one_are_kept(tmp_path):
    save_steps(tmp_path, SCORES, best=SCORES.get, keep=2)
    with Checkpoints(tmp_path, writable=False) as checkpoints:
        assert checkpoints.steps() == [2, 4, 5]
        assert checkpoints.best_step() == 2
        assert_holds(checkpoints.restore('best'), 2)
        assert_holds(checkpoints.restore('last'), 5)


def test_best_means_lowest_in_mode_min_also_for_a_reader_who_is_not_told(tmp_path):
    save_steps(tmp_path, SCORES, best=SCORES.get, keep=1, best_mode='min')
    with Checkpoints(tmp_path, writable=False) as reader:
        assert reader.steps() == [3, 5]
        assert reader.best_step() == 3
        assert_holds(reader.restore('best'), 3)


@pytest.mark.parametrize('mode, best', [('max', 2), ('min', 5)])
def test_nan_and_missing_metrics_never_rank(tmp_path, mode, best):
    scores = {1: math.nan, 2: 0.9, 3: None, 4: math.inf, 5: 0.3, 6: -math.inf, 7: math.nan}
    save_steps(tmp_path, scores, best=scores.get, keep=1, best_mode=mode)
    with Checkpoints(tmp_path, writable=True, best_mode=mode) as checkpoints:
        assert checkpoints.steps() == [best, 7]
        assert checkpoints.best_step() == best


def test_the_best_step_outlives_restarts(tmp_path):
    for step, score in SCORES.items():
        save_steps(tmp_path, [step], best=lambda _, score=score: score, keep=1)
    with Checkpoints(tmp_path, writable=False) as checkpoints:
        assert checkpoints.steps() == [2, 5]
        assert checkpoints.best_step() == 2


def test_without_a_metric_there_is_no_best_step(tmp_path):
    save_steps(tmp_path, (1, 2, 3), best=lambda _: None)
    with Checkpoints(tmp_path, writable=False) as checkpoints:
        assert checkpoints.steps() == [2, 3]
        assert checkpoints.best_step() is None
        with pytest.raises(UserError, match='no step .* has a finite metric'):
            checkpoints.restore('best')


def test_old_steps_do_not_fill_the_disk(tmp_path):
    with Checkpoints(tmp_path, writable=True, keep=1) as checkpoints:
        for step in range(1, 6):
            checkpoints.save(step, *make_trees(step), {}, best=step)
            checkpoints.wait()
            assert sorted(path.name for path in checkpoints.folder.iterdir()) == [str(step)]


def test_a_step_can_be_saved_again(tmp_path):
    save_steps(tmp_path, (1, 2))
    with Checkpoints(tmp_path, writable=True) as checkpoints:
        checkpoints.save(2, *make_trees(7), {'note': 'again'}, best=-1.0, replace=True)
        again = checkpoints.restore('last')
        assert (again.step, again.meta['note'], checkpoints.best_step()) == (2, 'again', 1)
        np.testing.assert_array_equal(again.arrays['params/conv/kernel'], arrays_of(7)['params/conv/kernel'])


def test_a_step_that_is_not_there_is_named(workdir):
    with Checkpoints(workdir, writable=False) as checkpoints:
        with pytest.raises(UserError, match=r'no step 7 .* there are: \[1, 2, 3\]'):
            checkpoints.restore(7)
    with pytest.raises(UserError, match='no checkpoints in .*train there first'):
        Checkpoints(workdir / 'elsewhere', writable=False)


# Damage


def flip_a_bit(path: Path, seed: int) -> None:
    data = bytearray(path.read_bytes())
    bit = random.Random(f'{path.name}{seed}').randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


@pytest.mark.parametrize('damage', ['flip', 'truncate', 'delete', 'empty'])
@pytest.mark.parametrize('item', ['params', 'optimizer', 'meta'])
def test_damaged_data_are_found_and_the_next_older_step_is_used(workdir, warnings, item, damage):
    step = workdir / 'checkpoints' / '3'
    # Arrays up to about 1 kB are in the index of their item, larger ones in files of their own.
    files = {'params': max(data_files(step / 'variables' / 'ocdbt.process_0'), key=lambda path: path.stat().st_size),
             'optimizer': max(data_files(step / 'training' / 'd'), key=lambda path: path.stat().st_size),
             'meta': step / 'meta' / 'metadata'}
    path = files[item]
    if damage == 'flip':  # of some bits: a single one may be one that means nothing
        for seed in range(8):
            flip_a_bit(path, seed)
    elif damage == 'delete':
        path.unlink()
    else:
        os.truncate(path, path.stat().st_size // 2 if damage == 'truncate' else 0)
    with Checkpoints(workdir, writable=False) as reader:
        with pytest.raises(UserError, match='step 3 .* is damaged'):
            reader.restore(3)
        assert reader.best_step() == (2 if item == 'meta' else 3)
    with Checkpoints(workdir, writable=True, keep=3) as checkpoints:
        assert_holds(checkpoints.restore('last'), 2)
        assert [line for line in warnings() if 'CHECKPOINT DAMAGED: step 3' in line and str(workdir) in line]
        assert checkpoints.steps() == [1, 2]
        assert (workdir / 'checkpoints' / 'damaged-3').is_dir()  # for whoever wants to look at it
        checkpoints.save(3, *make_trees(3), {'note': 'step 3'}, best=0.3)
        assert_holds(checkpoints.restore('last'), 3)
        assert checkpoints.best_step() == 3


def test_no_flipped_bit_in_any_file_gives_wrong_values(workdir):
    pristine = Path(shutil.copytree(workdir / 'checkpoints' / '3', workdir / 'pristine'))
    noticed = 0
    with Checkpoints(workdir, writable=False) as checkpoints:
        for path in data_files(pristine):
            target = workdir / 'checkpoints' / '3' / path.relative_to(pristine)
            for seed in range(2):
                flip_a_bit(target, seed)
                try:
                    assert_holds(checkpoints.restore(3), 3)
                except UserError as error:
                    assert 'is damaged' in str(error)
                    noticed += 1
                shutil.copy(path, target)
        assert_holds(checkpoints.restore(3), 3)
    assert noticed >= 10  # the rest were bits that mean nothing


def test_a_step_whose_meta_data_cannot_be_read_does_not_stop_a_run(workdir):
    for step in ('2', '3'):
        for path in data_files(workdir / 'checkpoints' / step):
            path.write_bytes(b'\xff{')
    with Checkpoints(workdir, writable=True) as checkpoints:
        assert_holds(checkpoints.restore('last'), 1)
        assert checkpoints.best_step() == 1


def test_damage_that_hides_the_best_step_is_said_and_the_step_is_kept(tmp_path, warnings):
    """Another step is not the best one, and the damaged one is not deleted because nobody knows how good it was."""
    save_steps(tmp_path, SCORES, best=SCORES.get, keep=2)
    flip_a_bit(tmp_path / 'checkpoints' / '2' / 'meta' / 'metadata', 0)
    with pytest.raises(UserError, match=r'step 2 is damaged .*; name another step, there are: \[4, 5\]') as info:
        checkpoints_lib.read(tmp_path, 'best')
    assert '\n' not in str(info.value)
    assert [line for line in warnings() if 'CHECKPOINT DAMAGED: step 2' in line]
    assert checkpoints_lib.read(tmp_path, 'last').step == checkpoints_lib.read(tmp_path, '5').step == 5
    save_steps(tmp_path, (6, 7), best=lambda step: None, keep=1)
    with Checkpoints(tmp_path, writable=False) as reader:
        assert reader.steps() == [2, 4, 7]  # 4 is the best of those that can be read
        with pytest.raises(UserError, match='step 2 is damaged'):
            reader.restore('best')


def test_a_step_is_what_its_meta_data_say_not_what_its_folder_is_called(workdir, warnings):
    """Folders are copied, swapped and linked."""
    folder = workdir / 'checkpoints'
    shutil.copytree(folder / '1', folder / '999')
    for name, target in (('2', 'x'), ('3', '2'), ('x', '3')):
        os.rename(folder / name, folder / target)
    with pytest.raises(UserError, match='step 2 in .* is damaged .*those of step 3'):
        checkpoints_lib.read(workdir, 2)
    with Checkpoints(workdir, writable=True, keep=2) as checkpoints:
        assert_holds(checkpoints.restore('last'), 1)
        assert sum('CHECKPOINT DAMAGED' in line for line in warnings()) == 3
        assert checkpoints.steps() == [1]
        checkpoints.save(4, *make_trees(4), {'note': 'step 4'}, best=0.4)
        assert_holds(checkpoints.restore('last'), 4)
    assert sorted(path.name for path in folder.iterdir()) == ['1', '4', 'damaged-2', 'damaged-3', 'damaged-999']


@pytest.mark.parametrize('meta', [
    [], 1, None, 'x', {}, {'step': '3'}, {'step': True}, {'step': 3}, {'step': 3, 'checksums': []},
    {'step': 3, 'checksums': {'variables': {}, 'training': 7}},
    {'step': 3, 'checksums': {'variables': {}, 'training': {}}, 'score': 'high'},
    {'step': 3, 'checksums': {'variables': {}, 'training': {}}, 'score': math.nan},
    {'step': 3, 'checksums': {'variables': {}, 'training': {}}, 'data': 7},
])
def test_meta_data_with_a_right_checksum_and_a_wrong_content_are_damage(workdir, meta):
    """A checksum is no seal against people."""
    sealed = json.dumps(checkpoint_meta.seal(meta))
    (workdir / 'checkpoints' / '3' / 'meta' / 'metadata').write_text(sealed)
    with Checkpoints(workdir, writable=False) as checkpoints:
        with pytest.raises(UserError, match='step 3 .* is damaged'):
            checkpoints.restore(3)
        assert checkpoints.best_step() == 2
        assert_holds(checkpoints.restore('last'), 2)


@pytest.mark.parametrize('step', ['²', '9' * 5000, '-1', '1.0', ''])
def test_what_is_no_step_is_one_short_error(workdir, step):
    with pytest.raises(UserError, match="no step .* it is 'best', 'last' or a number") as info:
        checkpoints_lib.read(workdir, step)
    assert len(str(info.value)) < 300


def test_all_steps_damaged_is_one_error(workdir):
    for path in (workdir / 'checkpoints').glob('*/variables/manifest.ocdbt'):
        path.write_bytes(b'')
    for _ in range(2):  # it does not begin from scratch the second time either
        with Checkpoints(workdir, writable=True) as checkpoints:
            with pytest.raises(UserError, match='every step in .* is damaged'):
                checkpoints.restore('last')
            assert checkpoints.steps() == [1, 2, 3]


def test_a_numeric_folder_that_is_no_checkpoint_is_stepped_over(workdir, warnings):
    (workdir / 'checkpoints' / '9').mkdir()
    (workdir / 'checkpoints' / '8').mkdir()
    (workdir / 'checkpoints' / '8' / 'holiday.jpg').write_text('beach')
    (workdir / 'checkpoints' / 'notes').mkdir()
    with Checkpoints(workdir, writable=True) as checkpoints:
        assert checkpoints.best_step() == 3
        assert_holds(checkpoints.restore('last'), 3)
        assert sum('Trying the next older step' in line for line in warnings()) == 2
        checkpoints.save(4, *make_trees(4), {'note': 'step 4'})
        assert_holds(checkpoints.restore('last'), 4)
    assert (workdir / 'checkpoints' / 'damaged-8' / 'holiday.jpg').is_file()  # nothing of yours is deleted


def test_debris_of_a_killed_run_is_cleaned_up(workdir):
    folder = workdir / 'checkpoints'
    shutil.copytree(folder / '3', folder / '4.orbax-checkpoint-tmp')
    shutil.copytree(folder / '1', folder / '.trash' / '0')
    with Checkpoints(workdir, writable=True, keep=3) as checkpoints:
        assert checkpoints.steps() == [1, 2, 3]
        checkpoints.save(4, *make_trees(4), {'note': 'step 4'})
        assert_holds(checkpoints.restore('last'), 4)
    assert sorted(path.name for path in folder.iterdir()) == ['2', '3', '4']


# Disks


def test_a_file_that_cannot_be_written_is_one_error_and_earlier_steps_are_intact(workdir):
    """A limit on file sizes fails writes as a full disk does, and needs no root."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Checkpoints(workdir, writable=True) as checkpoints:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
        try:
            message = r'step 4 could not be written .* earlier steps are intact: \[.*3\]'
            with pytest.raises(UserError, match=message) as info:
                checkpoints.save(4, *make_trees(4), {})
                checkpoints.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert '\n' not in str(info.value)
        assert checkpoints.steps()[-1] == 3
        checkpoints.save(5, *make_trees(5), {'note': 'step 5'})  # there is room again
    assert_intact(workdir, 5)


def test_a_full_disk_is_one_error_and_earlier_steps_are_intact(tmp_path):
    disk = tmp_path / 'disk'
    disk.mkdir()
    mounted = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=200k', 'tmpfs', str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip('mounting a small disk needs root; the limit on file sizes above is tested everywhere')
    try:
        save_steps(disk, (1,))
        with Checkpoints(disk, writable=True) as checkpoints:
            (disk / 'film').write_bytes(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize))
            with pytest.raises(UserError, match='step 2 could not be written .*: No space left on device') as info:
                checkpoints.save(2, *make_trees(2), {'note': 'step 2'})
                checkpoints.wait()
            assert '\n' not in str(info.value)
            assert_intact(disk, 1)
        (disk / 'film').unlink()
        save_steps(disk, (2,))
        assert_intact(disk, 2)
        assert not list((disk / 'checkpoints').glob('*tmp*'))
    finally:
        subprocess.run(['umount', '-l', str(disk)], check=True)


FULL_DISK = '''
import resource, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
import launch
from practicum.training import snapshot
snapshot._keep_source = lambda workdir: {}  # of a checkout with changes: its size is not the test's
sys.exit(launch.main())
'''


@pytest.mark.parametrize('limit', [pytest.param(100, marks=pytest.mark.thorough), 2500,
                                   pytest.param(5400, marks=pytest.mark.thorough)])
def test_a_run_on_a_full_disk_ends_with_one_line(tmp_path, limit):
    """Full at the first file, in the middle of the metrics, and at a checkpoint."""
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', FULL_DISK, str(limit),  # JAX warns of its cache's disk
                           '--config', 'tests/tiny.py', '--workdir', str(tmp_path),
                           f"--config.log_every={100 if limit == 5400 else 1} steps",
                           f"--config.checkpoint.every={'' if limit == 2500 else '4 steps'}"],
                          cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith('error: ') and 'File too large' in done.stderr
    assert done.stderr.count('\n') == 1
    assert ('checkpoint of step 4' if limit == 5400 else f'cannot write to {tmp_path}: ') in done.stderr


def test_a_failed_save_is_reported_at_the_end_at_the_latest(workdir, monkeypatch):
    with pytest.raises(UserError, match='step 4 could not be written .*: No space left on device'):
        with Checkpoints(workdir, writable=True) as checkpoints:
            def fail(*args, **kwargs):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            monkeypatch.setattr(checkpoints._folders, 'save', fail)
            checkpoints.save(4, *make_trees(4), {})


def test_a_workdir_that_cannot_be_written_is_one_error(tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('not a folder')
    with pytest.raises(UserError, match='cannot make the folder .*file/run: Not a directory'):
        Checkpoints(tmp_path / 'file' / 'run', writable=True)

    def refuse(path, *args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
    with monkeypatch.context() as patch:
        patch.setattr(os, 'open', refuse)
        with pytest.raises(UserError, match='cannot write to .*: Read-only file system'):
            Checkpoints(tmp_path / 'run', writable=True)


def test_a_read_only_run_can_be_read(workdir, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in [workdir, *workdir.rglob('*')]}
    assert_intact(workdir, 3)
    assert {path: path.stat().st_mtime_ns for path in [workdir, *workdir.rglob('*')]} == before


# Writers


HOLDER = '''
import sys, time
import launch
from practicum.training.checkpoints import Checkpoints
with Checkpoints(sys.argv[1], writable=True):
    print('holding', flush=True)
    time.sleep(60)
'''


def test_a_second_writer_is_refused_until_the_first_is_gone_even_if_it_was_killed(workdir):
    holder = subprocess.Popen([sys.executable, '-c', HOLDER, str(workdir)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == 'holding\n'
        with pytest.raises(UserError, match='another process is training in .*use another --workdir'):
            Checkpoints(workdir, writable=True)
        assert_intact(workdir, 3)  # readers may read meanwhile
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    save_steps(workdir, (4,))
    assert_intact(workdir, 4)


def test_a_writer_in_the_same_process_is_refused_too(workdir):
    with Checkpoints(workdir, writable=True):
        with pytest.raises(UserError, match='another process is training'):
            Checkpoints(workdir, writable=True)
    save_steps(workdir, (4,))


def test_the_lock_is_given_back_when_opening_fails(workdir, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(step_folders.ocp, 'CheckpointManager', lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            Checkpoints(workdir, writable=True)
    save_steps(workdir, (4,))
