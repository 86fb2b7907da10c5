"""Analogies solved by a run's word vectors, and by counting: PPMI and SVD on the same text with the same questions.

    python benchmarks/word_analogies.py --workdir runs/brown_word_vectors [--data DATA/brown]

The counts are those of all pairs of words at most as far apart as config.text.window says, near ones counting more, as
skip-gram's pairs do, in the lines of the training text, with and without the subsampling of frequent words. Positive
pointwise mutual information with contexts smoothed by a power of 0.75, of which the singular vectors with the largest
values are taken, as many as the run's vectors have numbers, weighted by the values' square root (Levy, Goldberg and
Dagan 2015, "Improving distributional similarity with lessons learned from word embeddings").
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import launch  # noqa: F401  a checkout becomes the package `practicum`
from practicum.common.vocabulary import Vocabulary
from practicum.inference.run import Run
from practicum.inference.words import word_vectors
from practicum.input_pipeline import sources
from practicum.input_pipeline.word_pairs import WordPairs
from practicum.tasks.text.analogies import questions
from practicum.tasks.text.word_similarity import WordVectors

SHOWN = ('money', 'king', 'river', 'monday', 'three', 'walked', 'church', 'red')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--workdir', required=True)
    parser.add_argument('--step', default='last')
    parser.add_argument('--data', help='config.data.name, if the text has moved')
    args = parser.parse_args()
    run = Run(args.workdir, args.step)
    config = run.config.copy_and_resolve_references()
    config.data.name = args.data or config.data.name
    vocabulary = Vocabulary.from_meta(run.info.vocabulary)
    learned = word_vectors(run)
    asked = questions(learned.numbers)
    columns = {'skip-gram': learned}
    for name, subsample in (('PPMI', 0.0), ('PPMI, subsampled', config.text.subsample)):
        began = time.process_time()
        config.text.subsample = subsample
        pairs = sources.open_split(config.data, config.image, config.data.train, text=config.text,
                                   vocabulary=vocabulary)
        columns[name] = WordVectors(ppmi_vectors(pairs, vocabulary.size, learned.unit.shape[1]), vocabulary)
        print(f'{name}: {time.process_time() - began:.0f} processor seconds', file=sys.stderr)
    scores = {name: vectors.score(asked) for name, vectors in columns.items()}
    print('| kind | questions |', ' | '.join(columns), '|\n|---|---|' + '---|' * len(columns))
    for kind, each in asked.items():
        print(f'| {kind} | {len(each):,} |', ' | '.join(_percent(*scores[name][kind]) for name in columns), '|')
    totals = {name: np.sum(list(score.values()), axis=0) for name, score in scores.items()}
    print(f'| all | {sum(map(len, asked.values())):,} |', ' | '.join(_percent(*totals[name]) for name in columns), '|')
    print(f'\n| word | {" | ".join(columns)} |\n|---|' + '---|' * len(columns))
    for word in SHOWN:
        if word in learned.numbers:
            near = (', '.join(other for other, _ in vectors.nearest(word, 5)) for vectors in columns.values())
            print(f'| {word} | {" | ".join(near)} |')


def ppmi_vectors(pairs: WordPairs, size: int, width: int, power: float = 0.75) -> np.ndarray:
    """Returns vectors of words, float [size, width], see the top of this file."""
    from scipy.sparse import coo_matrix
    from sklearn.utils.extmath import randomized_svd
    centres, contexts, weights = pairs.counted()
    counts = coo_matrix((weights, (centres, contexts)), shape=(size, size)).tocsr().tocoo()
    of_words = np.bincount(counts.row, counts.data, size)
    of_contexts = np.bincount(counts.col, counts.data, size) ** power
    expected = of_words[counts.row] * (of_contexts / of_contexts.sum())[counts.col]
    information = np.log(counts.data / expected)
    positive = information > 0
    matrix = coo_matrix((information[positive], (counts.row[positive], counts.col[positive])), shape=(size, size))
    left, values, _ = randomized_svd(matrix.tocsr(), width, random_state=0)
    return left * np.sqrt(values)


def _percent(right: int, asked: int) -> str:
    return f'{100 * right / asked:.1f} %'


if __name__ == '__main__':
    main()
