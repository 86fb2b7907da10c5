"""What must happen in a process before JAX and TensorFlow wake up, devices, caches, the cluster, and when it fails."""

import atexit
import ctypes
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import time
import traceback
import warnings

from ..common.errors import UserError
from ..common.files import cache_folder, trim
from . import cluster

_COMPILED_BYTES = 2 * 10**9  # of compiled steps in the cache
# By which process 0 leaves later: once it has gone, JAX aborts the others, who may be about to say the same.
_LAST_SECONDS = 1.0

_abort_watcher: subprocess.Popen | None = None


def prepare(*, cpu_devices: int = 0, coordinator: str = '', num_processes: int = 0, process_id: int = -1,
            training: bool = False, join: bool = True) -> None:
    """Prepares this process. Call it before anything else touches JAX.

    Args:
      cpu_devices: pretend to have so many CPU devices, to try data parallelism without GPUs; 0 changes nothing.
      coordinator: 'host:port' of process 0, for clusters that JAX does not detect.
      num_processes, process_id: with `coordinator`, how many processes there are and which one this is.
      training: whether steps will be trained, which is faster where freed memory is kept.
      join: whether to find the other processes of a cluster; not for what a single one does on its own.

    Raises:
      UserError: half of the cluster's description is missing, or process 0 cannot be reached at its address.
    """
    if cpu_devices < 0:
        raise UserError(f'--cpu_devices {cpu_devices}: it must not be negative')
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')  # announces itself on every start; we only write events
    if cpu_devices:
        # With fewer threads than this, collectives of virtual devices wait for each other for ever.
        os.environ['NPROC'] = str(max(4, 4 * cpu_devices))
    others = cluster.find(coordinator, num_processes, process_id) if join else None
    if others:
        others.check_address()
        _watch_for_abort(f'error: {others} was ended while it waited for the others at {others.address}; start all of '
                         'them again')
    import jax
    if cpu_devices:
        jax.config.update('jax_platforms', 'cpu')
        jax.config.update('jax_num_cpu_devices', cpu_devices)
    # Virtual devices are for trying out, and take their memory several times over.
    keep = training and not cpu_devices
    if keep and _cpus_alone(jax):
        _keep_freed_memory()
    _use_compilation_cache(jax)
    if others:
        others.join(jax, before_exit=stop_watching)
        _last_words('error: lost another process of this run, or was killed; the same command, started in all of them, '
                    'goes on from the last checkpoint')
    # Late, yet better than not: a plugin for devices that this machine does not have.
    if keep and not _cpus_alone(jax) and jax.default_backend() == 'cpu':
        _keep_freed_memory()


def _cpus_alone(jax) -> bool:
    """Whether JAX can have no devices but CPUs here; found out without waking it."""
    if jax.config.jax_platforms:
        return jax.config.jax_platforms == 'cpu'
    return not (importlib.metadata.entry_points(group='jax_plugins') or importlib.util.find_spec('jax_plugins')
                or importlib.util.find_spec('libtpu'))


def _keep_freed_memory() -> None:
    """Has the C library keep freed memory for the next step instead of giving it back to the kernel.

    XLA's CPU backend allocates its buffers anew for every step. glibc maps large ones and unmaps them when they are
    freed, so the kernel clears every page again: a fifth of a step of an FCN at 256x256 pixels. All three options are
    needed to stop that; other C libraries do not have them, and are left as they are.

    Before JAX has threads: one that has a heap of its own by then keeps it, and buffers above 64 MiB do not fit into
    such a heap and are mapped all the same (17,000 page faults, 15 % of a step of a detector).
    """
    try:
        mallopt = ctypes.CDLL('libc.so.6').mallopt
    except (OSError, AttributeError):
        return
    arena_max, mmap_max, trim_threshold = -8, -4, -1  # numbers from malloc.h
    for option, value in ((arena_max, 1), (mmap_max, 0), (trim_threshold, 2**31 - 1)):
        mallopt(option, value)


def _watch_for_abort(words: str) -> None:
    """Has a shell print one line should this process end without `stop_watching`.

    JAX's C++ threads abort a process whose peer is lost, and no Python code can catch that. The shell reads from a pipe
    that the kernel closes when this process is gone. Call it before importing JAX: JAX, too, waits for peers at exit.
    """
    global _abort_watcher
    script = 'trap "" TERM INT; while read -r line; do [ "$line" ] || exit; words=$line; done; echo "$words" >&2'
    _abort_watcher = subprocess.Popen(['/bin/sh', '-c', script], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                      start_new_session=True)
    _last_words(words)
    atexit.register(stop_watching)


def _last_words(line: str) -> None:
    """Gives the shell the line to print should this process end now."""
    _abort_watcher.stdin.write(f'{line}\n'.encode())
    _abort_watcher.stdin.flush()


def stop_watching() -> None:
    """Tells the shell that this process ends by its own decision."""
    global _abort_watcher
    if _abort_watcher is not None:
        _abort_watcher.communicate(b'\n')
        _abort_watcher = None


def _use_compilation_cache(jax) -> None:
    folder = cache_folder() / 'compiled'
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # a read-only home costs compilation time, nothing else
    # A process that was killed while it wrote an entry left half of one: that step is compiled again, that is all.
    warnings.filterwarnings('ignore', message='Error reading persistent compilation cache')
    trim(folder, _COMPILED_BYTES)  # jax_compilation_cache_max_size needs another package and locks the folder
    jax.config.update('jax_compilation_cache_dir', str(folder))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
    jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)


def rank() -> int:
    """Returns this process's number among those of the run."""
    import jax
    return jax.process_index() if jax.distributed.is_initialized() else 0


def leave(code: int) -> int:
    """Returns the exit code; one of several processes ends at once instead, since waiting for the others would hang."""
    if _several_processes():
        sys.stdout.flush()
        stop_watching()
        if rank() == 0:
            time.sleep(_LAST_SECONDS)
        os._exit(code)
    return code


def leave_after(error: Exception) -> int | None:
    """Ends this process after an exception that is not the user's mistake, or no mistake at all.

    Returns:
      An exit code if one line on stderr has said what to do; None if the exception is a bug to show.
    """
    jax = sys.modules.get('jax')
    runtime = jax is not None and isinstance(error, jax.errors.JaxRuntimeError)
    text = ' '.join(str(error).split())[:200]
    full = runtime and any(mark in text for mark in ('RESOURCE_EXHAUSTED', 'Out of memory'))  # on a GPU, on a CPU
    if isinstance(error, MemoryError) or full:
        print(f'error: out of memory: {text or "no more is to be had"}; make config.batch_size, the model or the '
              'images smaller', file=sys.stderr, flush=True)
        return leave(2)
    if not _several_processes():
        return None
    if runtime:  # in one of several processes nearly always a peer that has gone, of which the shell tells
        print(f'{type(error).__name__}: {text}', file=sys.stderr, flush=True)
        os._exit(1)
    traceback.print_exception(error)
    return leave(1)


def _several_processes() -> bool:
    jax = sys.modules.get('jax')
    return jax is not None and jax.distributed.is_initialized() and jax.process_count() > 1
