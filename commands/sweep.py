"""`launch.py sweep`: searches the best configuration, as one of any number of workers."""

from . import command


class Sweep(command.Command):
    """See the top of this file."""
    help = 'search the best configuration of an experiment, or join in'
    takes_overrides = True

    def add_arguments(self, parser):
        """See `Command`."""
        parser.add_argument('--workdir', type=command.path, required=True,
                            help='folder of the sweep; with nothing else: one more worker of the sweep that is there')
        parser.add_argument('--config', metavar='FILE[:VARIANT]', help='an experiment file, to begin a sweep')
        parser.add_argument('--search', action='append', default=[], metavar='FIELD=VALUES',
                            help="low:high, log:low:high, low:high:step or one,another; without any --search the "
                                 "experiment's own search_space(config)")
        parser.add_argument('--trials', type=int, help='in all, those that are done included; 30, or the whole grid')
        parser.add_argument('--seeds', type=int, help='with how many seeds the best configuration is trained, then '
                                                      'scored on config.evaluation.final once; 1, and 0: not scored')
        parser.add_argument('--metric', help='<set>/<metric>; config.checkpoint.best_metric by default')
        parser.add_argument('--mode', choices=('max', 'min'), help='whether more of it is better')
        parser.add_argument('--sampler', help='tpe (the default), random or grid')
        parser.add_argument('--pruner', help='asha (the default), median or none')
        parser.add_argument('--sampler_seed', type=int, help='other trials of the same sweep')
        parser.add_argument('--storage', metavar='URL',
                            help='postgresql://user@host/database, beyond ten workers; a file in the folder by default')
        parser.add_argument('--heartbeat', type=float, metavar='SECONDS',
                            help='60; a worker that is silent for three of them is lost')

    def run(self, args, overrides):
        """See `Command`."""
        from ..common.errors import UserError
        from ..tuning import definition, search_space, sweep
        settings = {'metric': args.metric, 'mode': args.mode, 'sampler': args.sampler, 'pruner': args.pruner,
                    'seed': args.sampler_seed, 'storage': args.storage, 'heartbeat': args.heartbeat}
        settings = {name: value for name, value in settings.items() if value is not None}
        if not args.config:
            if args.search or overrides or settings:
                raise UserError('sweep: --config is needed to begin one; to join the one that is there --workdir is '
                                'enough, with --trials and --seeds for more of them')
            return sweep.work(args.workdir, sweep.join(args.workdir, args.trials, args.seeds))
        new = definition.define(
            args.config, overrides, search=search_space.from_words(args.search), trials=args.trials,
            seeds=1 if args.seeds is None else args.seeds, **settings)
        return sweep.work(args.workdir, sweep.begin(args.workdir, new, args.trials, args.seeds))
