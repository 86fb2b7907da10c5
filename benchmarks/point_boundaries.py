"""Decision boundaries of trained runs beside those of scikit-learn's support vector machines, on the same points.

    for v in linear separable xor xor_linear spirals spirals_linear; do
        python launch.py --config experiments/points.py:$v; done; python launch.py --config experiments/points.py
    python benchmarks/point_boundaries.py --runs runs/points* --output boundaries.png

C and gamma of a machine are those of the grid below that are best on the validation points; the test points are scored
once.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import launch  # noqa: E402, F401  the checkout becomes the package `practicum`

COSTS, GAMMAS = (0.1, 1.0, 10.0, 100.0), (0.5, 2.0, 8.0, 32.0)
KINDS = ('separable', 'xor', 'moons', 'spirals')


def best_machine(kernel: str, points: dict):
    """Returns the support vector machine of a kernel, fitted to the training points."""
    from sklearn.svm import SVC
    gammas = GAMMAS if kernel == 'rbf' else ('scale',)
    machines = [SVC(kernel=kernel, C=cost, gamma=gamma).fit(points['train']['x'], points['train']['label'])
                for cost in COSTS for gamma in gammas]
    return max(machines, key=lambda machine: machine.score(points['validation']['x'], points['validation']['label']))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--runs', nargs='+', type=Path, required=True, help='folders of runs of experiments/points.py')
    parser.add_argument('--output', type=Path, default=Path('boundaries.png'))
    args = parser.parse_args()
    import numpy as np
    from matplotlib.figure import Figure

    import practicum
    from practicum.input_pipeline import sources
    from practicum.tasks import fit_figures
    from practicum.tasks.prediction import softmax
    runs = {}
    for folder in args.runs:
        run = practicum.load(folder, 'last')
        runs[run.config.data.name, bool(run.config.model.hidden)] = run, json.loads(
            (folder / 'result.json').read_text())['metrics']['test/accuracy']
    figure = Figure(figsize=(14, 14), layout='constrained')
    axes = figure.subplots(len(KINDS), 4)
    print(f'{"points":<12}{"linear model":>14}{"linear SVM":>14}{"hidden layers":>15}{"RBF SVM":>12}')
    for kind, row in zip(KINDS, axes):
        config = next(run.config for (name, _), (run, _) in runs.items() if name == kind)
        splits = {'train': config.data.train, 'validation': config.evaluation.sets.validation.split, 'test': 'test'}
        points = {}
        for name, split in splits.items():
            source = sources.open_split(config.data, config.image, split)
            points[name] = source.read(np.arange(len(source)))
        shown, line, chosen = {'train': points['train']}, f'{kind:<12}', []
        for place, (title, deep, kernel) in zip(row, (('linear model', False, 'linear'), ('linear SVM', None, 'linear'),
                                                      ('two hidden layers', True, 'rbf'), ('RBF SVM', None, 'rbf'))):
            if deep is None:
                machine = best_machine(kernel, points)
                accuracy = machine.score(points['test']['x'], points['test']['label'])
                gamma = f', gamma = {machine.gamma:g}' if kernel == 'rbf' else ''
                chosen.append(f'{title}: C = {machine.C:g}{gamma}')

                def probabilities(x, machine=machine):
                    score = machine.decision_function(x)  # no probability, but its sign is the class
                    return softmax(np.stack([-score, score], axis=1))
            elif (kind, deep) in runs:
                run, accuracy = runs[kind, deep]

                def probabilities(x, run=run):
                    return softmax(fit_figures.apply(run.model, run.variables, x))
            else:
                place.set_axis_off()
                line += f'{"-":>14}'
                continue
            title = f'{kind}, {title}: {100 * accuracy:.1f} %'
            fit_figures.draw_regions(probabilities, shown, ('blue', 'orange'), title, place)
            place.get_legend().remove()
            line += f'{100 * accuracy:>12.2f} %'
        print(f'{line}   {"; ".join(chosen)}')
    figure.suptitle('200 training points; accuracy on 2,000 test points')
    figure.savefig(args.output, dpi=60)
    print(args.output)


if __name__ == '__main__':
    main()
