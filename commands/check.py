"""`launch.py check`: whether an experiment can begin, before it waits in a queue for hours."""

import json
import logging

from ..common.errors import UserError
from . import command


class Check(command.Command):
    """See the top of this file."""
    help = 'open the data and build everything that an experiment needs, train nothing'
    takes_overrides = True

    def add_arguments(self, parser):
        """See `Command`."""
        command.add_config(parser)
        parser.add_argument('--variations', default='[[]]', metavar='JSON',
                            help="lists of 'field=value', each checked on top of the config: [[\"seed=1\"], []]")
        command.add_processes(parser)

    def run(self, args, overrides):
        """See `Command`."""
        from ..training import config as config_lib
        configs = [config_lib.load(args.config, [*overrides, *variation]) for variation in _lists(args.variations)]
        command.prepare(args)
        from ..input_pipeline import checks
        from ..training.components import build_training
        from ..training.evaluation import Evaluations
        from ..training.transfer import init_from
        for number, config in enumerate(configs):
            training = build_training(config)
            if number == 0:  # what comes after takes seconds
                names = tuple(dict.fromkeys((*config.evaluation.periodic, *config.evaluation.final)))
                evaluations = Evaluations(config, training.parallel, training.task, training.info, names)
                checks.say_what_is_learned(training.source, evaluations.sources)
            begins_elsewhere = config.init_from.workdir and config.init_from not in (
                earlier.init_from for earlier in configs[:number])
            if number == 0 or begins_elsewhere:
                state = training.initial_state()
            if begins_elsewhere:
                init_from(config.init_from, state.variables, training.info)
        logging.info('%s fits: %s steps of %d on %s', configs[0].experiment, f'{training.total:,}',
                     configs[0].batch_size, training.parallel)
        return 0


def _lists(text: str) -> list[list[str]]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    lists = found if isinstance(found, list) else []
    if not lists or not all(isinstance(one, list) and all(isinstance(word, str) for word in one) for one in lists):
        raise UserError('--variations is JSON, lists of overrides in a list: [["seed=1"], ["seed=2", "total=9 steps"]]')
    return lists
