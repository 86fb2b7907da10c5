#!/usr/bin/env python3
"""The one entry point, from training to finding similar pictures. `python launch.py --help` tells the rest."""

import logging
import os
import sys
import traceback
from pathlib import Path

from training import process
from training.arguments import parse
from training.errors import UserError

PACKAGES = ('absl', 'clu', 'dm_pix', 'flax', 'jax', 'ml_collections', 'numpy', 'optax', 'orbax', 'PIL', 'safetensors')


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns the exit code: 0, 2 for a user's mistake, 128 + signal when asked to stop."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0].startswith('-') and argv[0] not in ('-h', '--help'):
        argv.insert(0, 'train')
    # What these print is data, for a pipe.
    stream = sys.stderr if argv[0] in ('predict', 'neighbors', 'generate') else sys.stdout
    logging.basicConfig(level=logging.INFO, format='%(message)s', stream=stream, force=True)
    for name in ('absl', 'jax', 'orbax', 'tensorflow', 'matplotlib', 'etils'):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what fails in them reaches us as an exception
    try:
        return run(argv)
    except UserError as error:
        print(f'error: {error}', file=sys.stderr, flush=True)
        return leave_together(2)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr, flush=True)
        return leave_together(130)
    except BrokenPipeError:  # `launch.py list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name in PACKAGES:  # others are bugs
            print(f"error: {error.name} is not installed: run 'make venv' once and start with "
                  '.venv/bin/python launch.py ...', file=sys.stderr, flush=True)
            return 2
        if not several_processes():
            raise
        if is_lost_peer(error):
            os._exit(1)  # without goodbye: the last words say what happened
        traceback.print_exc()
        return leave_together(1)


def run(argv: list[str]) -> int:
    """Parses the command line and calls the command."""
    args, overrides = parse(argv)
    if args.command == 'list':
        from training import commands
        return commands.list_experiments()
    if args.command in ('train', 'show'):
        from training import config as config_lib
        config = config_lib.load(args.config, overrides)
        if args.command == 'show':
            from training import commands
            return commands.show(config)
    if args.command == 'import':
        process.prepare()
        from training.importing import import_weights
        return import_weights(args.source, args.arch, args.weights, args.output, class_names=args.class_names,
                              mean=args.mean, std=args.std, size=args.size)
    if args.command == 'report':
        os.environ['JAX_PLATFORMS'] = 'cpu'  # a training may have the GPU
        from training.gallery import write_gallery
        print(write_gallery(args.workdir, args.output))
        return 0
    if args.command == 'generate':
        process.prepare()
        from training.generation import generate
        return generate(args.workdir, args.prompt, step=args.step, length=args.length, samples=args.samples,
                        temperature=args.temperature, top_k=args.top_k, top_p=args.top_p, beam_size=args.beam_size,
                        seed=args.seed, form=args.format)
    if args.command in ('embed', 'neighbors'):
        process.prepare()
        from training import retrieval
        if args.command == 'embed':
            return retrieval.embed(args.workdir, args.folder, step=args.step, endpoint=args.features, pool=args.pool,
                                   output=args.output)
        return retrieval.neighbors(args.inputs, args.index, top_k=args.top_k, output=args.output, form=args.format,
                                   workdir=args.workdir)
    process.prepare(cpu_devices=args.cpu_devices, coordinator=args.coordinator, num_processes=args.num_processes,
                    process_id=args.process_id)
    if args.command == 'train':
        if args.process_id > 0 or process.rank() > 0:
            logging.getLogger().setLevel(logging.WARNING)  # one console is enough
        from training.loop import train
        return train(config, args.workdir or Path('runs') / config.experiment.replace(':', '-'))
    from training import commands
    if args.command == 'evaluate':
        if args.tta:
            overrides.append(f'evaluation.tta={args.tta}')
        return commands.evaluate(args.workdir, step=args.step, names=args.sets, overrides=overrides)
    from training.prediction import predict_files
    return predict_files(args.workdir, args.inputs, step=args.step, top_k=args.top_k,
                         invert=args.invert, output=args.output, form=args.format, tta=args.tta or 'none',
                         overrides=overrides)


def several_processes() -> bool:
    """Whether this process is one of several of a run."""
    jax = sys.modules.get('jax')
    return jax is not None and jax.distributed.is_initialized() and jax.process_count() > 1


def is_lost_peer(error: Exception) -> bool:
    """Whether an exception is what a collective raises when another process has gone."""
    text = str(error)
    return any(mark in text for mark in ('Gloo', 'NCCL', 'Connection closed by peer', 'coordination service',
                                         'DEADLINE_EXCEEDED', 'UNAVAILABLE'))


def leave_together(code: int) -> int:
    """Returns the exit code; one of several processes ends at once instead, since waiting for the others would hang."""
    if several_processes():
        sys.stdout.flush()
        process.goodbye()
        os._exit(code)
    return code


if __name__ == '__main__':
    sys.exit(main())
