"""One of the processes that save a state sharded over all of them: sharded_saves.py RANK COUNT PORT WORKDIR ACTIONS...

Each process has two virtual CPU devices. ACTIONS are done in order by all processes:
  save:N        save step N
  nan:N         save step N with a NaN in a block of the last process
  unwritable:N  save step N while the last process can write no file
  die:N:K       save step N; process K kills itself when its blocks are written, before it tells so
  slow:N        save step N; the last process writes its blocks three seconds later
  steps         print the steps, and the best one
  compare:N     restore step N and place it on all devices: every block must have the right numbers
"""

import os
import resource
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def sharded_trees(step: int, nan: bool = False) -> tuple[dict, dict]:
    """Returns variables and training state of a step on all devices: sharded, replicated, and host arrays."""
    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec
    mesh = Mesh(np.array(jax.devices()), ('data',))

    def place(value, *spec):
        return jax.make_array_from_callback(value.shape, NamedSharding(mesh, PartitionSpec(*spec)),
                                            lambda index: value[index])
    kernel, bias, both, mu = whole_arrays(step)
    if nan:
        kernel = kernel.copy()
        kernel[-1, -1] = np.nan
    params = {'conv': {'kernel': place(kernel, 'data'), 'bias': place(bias)}, 'tall': place(both, None, 'data')}
    return ({'params': params, 'batch_stats': {}, 'ema': {}},
            {'opt_state': {'mu': place(mu, 'data')}, 'step': np.asarray(step, np.int32)})


def whole_arrays(step: int):
    import ml_dtypes
    import numpy as np
    generator = np.random.default_rng(step)
    return (generator.normal(size=(8, 40)).astype(np.float32), generator.normal(size=5).astype(np.float32),
            generator.normal(size=(3, 16, 2)).astype(ml_dtypes.bfloat16), generator.normal(size=400).astype(np.float32))


def expected_arrays(step: int) -> dict:
    import numpy as np
    names = ('params/conv/kernel', 'params/conv/bias', 'params/tall', 'opt_state/mu')
    return dict(zip(names, whole_arrays(step))) | {'step': np.asarray(step, np.int32)}


def compare(workdir: Path, step: int) -> None:
    import jax
    import numpy as np

    from practicum.training.checkpoints import Checkpoints, unflatten
    from practicum.training.defaults import base
    from practicum.training.parallel import Parallel
    parallel, trees = Parallel(base().parallel), sharded_trees(step)
    merged = trees[0] | trees[1]
    parts = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), merged)
    if parallel.is_writer:
        with Checkpoints(workdir, writable=False) as checkpoints:
            parts = unflatten(parts, checkpoints.restore(step).arrays, what='it')
    parts = parallel.broadcast(parts)
    for old, new in zip(jax.tree.leaves(merged), jax.tree.leaves(parts)):
        placed = jax.make_array_from_callback(old.shape, old.sharding, lambda index, new=new: new[index]) if isinstance(
            old, jax.Array) else new
        for wanted, found in zip(getattr(old, 'addressable_shards', ()), getattr(placed, 'addressable_shards', ())):
            np.testing.assert_array_equal(np.asarray(wanted.data), np.asarray(found.data))


def main() -> int:
    rank, count, port, workdir, actions = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5:]
    import launch  # noqa: F401  a checkout becomes the package `practicum`
    from practicum.common.errors import UserError
    from practicum.training import process, shards
    from practicum.training.checkpoint_meta import NonFiniteError
    process.HEARTBEAT_SECONDS, shards.VISIBLE_SECONDS = 10, 2
    cluster = dict(coordinator=f'127.0.0.1:{port}', num_processes=count, process_id=rank) if count > 1 else {}
    process.prepare(cpu_devices=2, training=True, **cluster)
    from practicum.training.checkpoints import FOLDER, Checkpoints
    last = rank == count - 1
    contribute = shards.Together.contribute
    try:
        saver = (Checkpoints(workdir, writable=True, everyone=count > 1, keep=3) if rank == 0 else
                 shards.BlockWriter(Path(workdir) / FOLDER))
        with saver:
            for action in actions:
                kind, _, text = action.partition(':')
                step = int(text.partition(':')[0] or 0)
                soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
                if kind == 'die' and rank == int(text.rpartition(':')[2]):
                    shards.Together._tell = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
                elif kind == 'slow' and last:
                    shards.Together.contribute = lambda *args: (time.sleep(3), contribute(*args))
                elif kind == 'unwritable' and last:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
                if kind == 'steps':
                    if rank == 0:
                        print(saver.steps(), saver.best_step(), flush=True)
                elif kind == 'compare':
                    saver.wait()
                    compare(Path(workdir), step)
                    print('equal', flush=True)
                else:
                    variables, training = sharded_trees(step, nan=kind == 'nan')
                    if rank == 0:
                        saver.save(step, variables, training, {'note': f'step {step}'}, best=-step, replace=True)
                    else:
                        saver.save(step, {'variables': variables, 'training': training})
                    if kind == 'unwritable':
                        try:
                            saver.wait()
                        finally:
                            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
                shards.Together.contribute = contribute
    except (UserError, NonFiniteError) as error:
        print(f'{type(error).__name__}: {error}', flush=True)
        return process.leave(2)
    except Exception as error:  # as launch.py does
        code = process.leave_after(error)
        return 1 if code is None else code
    return 0


if __name__ == '__main__':
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
