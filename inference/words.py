"""Words that are near others, of a run that has learned vectors of words: `launch.py neighbors --words`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..common.errors import UserError
from ..common.vocabulary import Vocabulary
from ..tasks.text.word_similarity import WordVectors
from .formats import format_csv, format_json
from .run import Run


def word_vectors(run: Run) -> WordVectors:
    """Returns the vectors of a run's words: of skip-gram, or those that a language model or captioner reads by.

    Raises:
      UserError: the run has none.
    """
    table = run.variables['params'].get('embedding', {})
    table = table.get('embedding') if hasattr(table, 'get') else None
    if run.info.vocabulary is None or table is None:
        raise UserError(f'--words: {run.workdir} has no vectors of words, as runs of brown_word_vectors and brown_lstm '
                        f'have; its model is {run.config.model.name}')
    vocabulary = Vocabulary.from_meta(run.info.vocabulary)
    if vocabulary.kind == 'characters':
        raise UserError(f'--words: {run.workdir} knows characters, no words')
    return WordVectors(np.asarray(table), vocabulary)


def nearest_words(run: Run, queries: Sequence[str], *, top_k: int = 5) -> list[dict[str, Any]]:
    """Returns the words nearest to each query: 'query', 'rank' from 1 on, 'word' and 'similarity', the cosine.

    Args:
      run: see `word_vectors`.
      queries: words, or sums of words such as 'king - man + woman'.
      top_k: words to each.

    Raises:
      UserError: no vectors, or a word that they do not have.
    """
    if top_k < 1:
        raise UserError(f'--top_k {top_k}: it must be at least 1')
    vectors = word_vectors(run)
    return [{'query': query, 'rank': rank, 'word': word, 'similarity': round(similarity, 4)}
            for query in queries for rank, (word, similarity) in enumerate(vectors.nearest(query, top_k), start=1)]


def print_nearest(run: Run, queries: Sequence[str], *, top_k: int, form: str) -> int:
    """Prints `nearest_words`, as 'table', 'csv' or 'json'; returns the exit code."""
    rows = nearest_words(run, queries, top_k=top_k)
    if form != 'table':
        print({'json': format_json, 'csv': format_csv}[form](rows), end='')
        return 0
    for query in dict.fromkeys(queries):
        print(query)
        for row in rows:
            if row['query'] == query:
                print(f"  {row['similarity']:.3f}  {row['word']}")
    return 0
