"""The command line: commands, options, and mistakes in them as one line."""

import argparse
from pathlib import Path

from training.errors import UserError

COMMANDS = ('train', 'evaluate', 'predict', 'generate', 'report', 'embed', 'neighbors', 'import', 'show', 'list')


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Returns the parsed arguments and the --config.field=value overrides."""
    parser = _Parser(prog='launch.py', description='Train, evaluate and use the experiments of this repository.',
                     epilog='Any field of a config can be overridden: --config.optimizer.learning_rate=0.03. '
                            "'launch.py list' shows the experiments, 'launch.py show --config X' all fields of one.")
    commands = parser.add_subparsers(dest='command', required=True, metavar='{' + ','.join(COMMANDS) + '}')
    train = commands.add_parser('train', help='train or resume (the default command)')
    train.add_argument('--workdir', type=Path, help='folder of the run; runs/<experiment> by default')
    show = commands.add_parser('show', help='print the resolved config')
    for command in (train, show):
        command.add_argument('--config', required=True, metavar='FILE[:VARIANT]', help='an experiment file')
    evaluate = commands.add_parser('evaluate', help='score a checkpoint')
    evaluate.add_argument('--sets', nargs='+', default=(), help='which evaluation sets; all of the config by default')
    predict = commands.add_parser('predict', help='classify, segment or caption pictures')
    predict.add_argument('inputs', nargs='+', help='pictures or folders of pictures')
    predict.add_argument('--top_k', type=int, default=3, help='classes per picture')
    predict.add_argument('--invert', action='store_true', help='predict the negative: for dark digits on light paper')
    predict.add_argument('--output', type=Path, help='write to this .csv, .json or .txt file, or masks to this folder')
    predict.add_argument('--format', choices=('table', 'csv', 'json'), default='table')
    for command in (evaluate, predict):
        command.add_argument('--tta', choices=('none', 'flip', 'ten_crop'), help='look at several views of pictures')
    generate = commands.add_parser('generate', help='go on with a text')
    generate.add_argument('--prompt', nargs='+', default=[''], help='beginnings of texts; a new line by default')
    generate.add_argument('--length', type=int, default=50, help='words, or characters, to write')
    generate.add_argument('--samples', type=int, default=1, help='texts for each prompt')
    generate.add_argument('--temperature', type=float, default=1.0, help='0: always the most probable')
    generate.add_argument('--top_k', type=int, default=0, help='draw from the most probable so many; 0: all')
    generate.add_argument('--top_p', type=float, default=1.0, help='draw from the most probable with this mass')
    generate.add_argument('--beam_size', type=int, default=0, help='search the most probable text instead of drawing')
    generate.add_argument('--seed', type=int, default=0)
    generate.add_argument('--format', choices=('text', 'json'), default='text')
    report = commands.add_parser('report', help='write what a run found as one html file')
    report.add_argument('--workdir', type=Path, required=True, help='folder of a run')
    report.add_argument('--output', type=Path, help='<workdir>/report.html by default')
    embed = commands.add_parser('embed', help='write the features of all pictures of a folder')
    embed.add_argument('folder', type=Path, help='pictures; folders in it are classes')
    embed.add_argument('--features', default='', metavar='ENDPOINT', help="of the model; the last before the logits by "
                                                                          'default')
    embed.add_argument('--pool', choices=('mean', 'max', 'flatten'), default='mean', help='what becomes of the pixels '
                                                                                          'of a feature map')
    embed.add_argument('--output', type=Path, default=Path('index.npz'), help='index.npz by default')
    neighbors = commands.add_parser('neighbors', help='find the pictures of an index that are most similar to others')
    neighbors.add_argument('inputs', nargs='+', help='pictures or folders of pictures')
    neighbors.add_argument('--index', type=Path, default=Path('index.npz'), help='what embed wrote; index.npz by '
                                                                                 'default')
    neighbors.add_argument('--top_k', type=int, default=5, help='neighbours of each picture')
    neighbors.add_argument('--output', type=Path, default=Path('neighbors.png'), help='neighbors.png by default')
    neighbors.add_argument('--format', choices=('table', 'csv', 'json'), default='table')
    neighbors.add_argument('--workdir', type=Path, help='where the run of the index is now, if it has moved')
    importing = commands.add_parser('import', help='turn weights trained elsewhere into a checkpoint')
    importing.add_argument('--from', dest='source', required=True, help="where they are from: 'torchvision' or 'lpips'")
    importing.add_argument('--arch', required=True, help="torchvision's name of the architecture, such as resnet50")
    importing.add_argument('--weights', type=Path, required=True, help='a .safetensors, .pth or .npz; for lpips its '
                                                                       '.tar.gz')
    importing.add_argument('--output', type=Path, required=True, help='folder for the checkpoint')
    importing.add_argument('--class_names', type=Path, help='.txt with a name per line, or .json with a list')
    importing.add_argument('--mean', type=float, nargs=3, help="of ImageNet's pixels in [0, 1] by default")
    importing.add_argument('--std', type=float, nargs=3)
    importing.add_argument('--size', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'), help='224 224 by default')
    for command in (evaluate, predict, generate, embed):
        command.add_argument('--workdir', type=Path, required=True, help='folder of a run')
        command.add_argument('--step', default='best', help="'best', 'last' or a number")
    for command in (train, evaluate, predict):
        command.add_argument('--cpu_devices', type=int, default=0, help='pretend to have so many CPU devices')
        command.add_argument('--coordinator', default='', help='host:port of process 0, outside Slurm and Open MPI')
        command.add_argument('--num_processes', type=int, default=0)
        command.add_argument('--process_id', type=int, default=-1)
    commands.add_parser('list', help='list the experiments with their measured results')

    overrides, rest = [], []
    words = iter(argv)
    for word in words:
        if word.startswith('--config.'):
            if '=' not in word:
                value = next(words, '--')
                if value.startswith('--'):
                    raise UserError(f'{word} needs a value')
                word = f'{word}={value}'
            overrides.append(word.removeprefix('--config.'))
        else:
            rest.append(word)
    check_words(rest, commands.choices)
    args = parser.parse_args(rest)
    if overrides and args.command not in ('train', 'show', 'evaluate', 'predict'):
        raise UserError(f'{args.command} takes no --config.{overrides[0]}')
    return args, overrides


def check_words(words: list[str], commands: dict[str, '_Parser']) -> None:
    """Raises UserError that names the nearest command or option, which argparse does not."""
    if words[0].startswith('-'):
        return
    from training.config import nearest
    if words[0] not in commands:
        raise UserError(f'no command {words[0]!r}; {nearest(words[0], COMMANDS)}')
    known = commands[words[0]].options
    for word in words[1:]:
        name = word.partition('=')[0]
        if name.startswith('--') and not any(option.startswith(name) for option in known):
            raise UserError(f'{words[0]} has no option {name}; {nearest(name, known)}')


class _Parser(argparse.ArgumentParser):
    """argparse with one-line errors; remembers its options."""

    def __init__(self, **settings):
        self.options: list[str] = []
        super().__init__(**settings)

    def add_argument(self, *names, **settings):
        self.options += [name for name in names if name.startswith('--')]
        return super().add_argument(*names, **settings)

    def error(self, message: str):
        raise UserError(f'{message}; see {self.prog} --help')
