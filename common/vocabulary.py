"""Texts as lists of token ids. The vocabulary travels in the checkpoint, so that a model is asked in its own words."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .errors import UserError, nearest

PAD, START, END, UNKNOWN = 0, 1, 2, 3
SPECIAL = ('<pad>', '<start>', '<end>', '<unk>')

# 'words': lower-cased and without punctuation, as is usual for captions (Karpathy and Fei-Fei 2015, section 4);
# 'pieces': lower-cased words of letters, single digits and punctuation marks, for numbers that are not all known;
# 'whitespace': what stands between blanks, for texts that have been tokenised already.
KINDS = ('words', 'pieces', 'whitespace', 'characters')
ALWAYS_LOWER = ('words', 'pieces')

_WORD = re.compile(r"\w+(?:[-'\u2019]\w+)*")
_PIECE = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*|\d|[^\w\s]|_")


class Vocabulary:
    """The tokens that a model knows, by their ids.

    Args:
      kind: how texts are split, see KINDS.
      entries: tokens by id; the first four are SPECIAL.
      lowercase: whether texts are lower-cased first; 'words' and 'pieces' always are.
      source: of translations, the vocabulary of the texts that are translated; this one is that of what is written.

    Attributes:
      size: number of tokens, the special ones included.
    """

    def __init__(self, kind: str, entries: Sequence[str], *, lowercase: bool = False,
                 source: 'Vocabulary | None' = None):
        if kind not in KINDS:
            raise UserError(f'config.text.tokens = {kind!r}; {nearest(str(kind), KINDS)}')
        if tuple(entries[:len(SPECIAL)]) != SPECIAL or len(set(entries)) < len(entries):
            raise UserError(f'a vocabulary begins with {", ".join(SPECIAL)} and has no token twice')
        self.kind, self.entries, self.source = kind, tuple(entries), source
        self.lowercase = lowercase or kind in ALWAYS_LOWER
        # A text that says <pad> or <start> does not mean them: padding is not scored.
        self._ids = {token: number for number, token in enumerate(self.entries) if number not in (PAD, START)}

    @property
    def size(self) -> int:
        """Number of tokens."""
        return len(self.entries)

    @classmethod
    def build(cls, texts: Iterable[str], kind: str, *, lowercase: bool = False, min_count: int = 1, max_size: int = 0
              ) -> 'Vocabulary':
        """Collects the tokens of texts, the most frequent first, equally frequent ones by their spelling.

        Args:
          texts: of the training data alone.
          min_count: rarer tokens are left out and read as <unk>.
          max_size: most tokens to keep, the special ones included; 0 for all.

        Raises:
          UserError: unknown kind, impossible bounds, or no token at all.
        """
        if min_count < 1:
            raise UserError(f'config.text.min_count = {min_count}: it must be at least 1')
        if max_size and max_size <= len(SPECIAL):
            raise UserError(f'config.text.max_size = {max_size}: it counts the {len(SPECIAL)} special tokens, so it '
                            f'must be above {len(SPECIAL)} (0 for all tokens)')
        splitter = cls(kind, SPECIAL, lowercase=lowercase)
        counts = Counter(token for text in texts for token in splitter.split(text))
        for token in SPECIAL:  # a text may hold <unk> already, as the Penn Treebank does
            counts.pop(token, None)
        kept = sorted((token for token, count in counts.items() if count >= min_count),
                      key=lambda token: (-counts[token], token))
        kept = kept[:max_size - len(SPECIAL)] if max_size else kept
        if not kept:
            raise UserError(f'the training texts have no token ({kind}) that occurs at least {min_count} time(s): '
                            'config.text.tokens, config.text.min_count, config.data.name')
        return cls(kind, (*SPECIAL, *kept), lowercase=lowercase)

    def split(self, text: str) -> list[str]:
        """Returns the tokens of a text as strings, unknown ones as they are."""
        if self.kind == 'words':
            return _WORD.findall(text.lower())
        if self.kind == 'pieces':
            return _PIECE.findall(text.lower())
        text = text.lower() if self.lowercase else text
        return text.split() if self.kind == 'whitespace' else list(text)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text's tokens, UNKNOWN for those it does not know; without <start> and <end>."""
        return [self._ids.get(token, UNKNOWN) for token in self.split(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids up to the first <end>, without <pad> and <start>."""
        words = []
        for number in ids:
            if number == END:
                break
            if number not in (PAD, START):
                words.append(self.entries[number])
        return ('' if self.kind == 'characters' else ' ').join(words)

    def decode_lines(self, ids: Iterable[int]) -> str:
        """Returns the text of ids of running text, in which <end> ends a line."""
        lines: list[list[int]] = [[]]
        for number in ids:
            if number == END:
                lines.append([])
            else:
                lines[-1].append(number)
        return '\n'.join(map(self.decode, lines))

    def unknown(self, text: str) -> list[str]:
        """Returns the tokens of a text that it does not know, each once."""
        return [token for token in dict.fromkeys(self.split(text)) if self._ids.get(token, UNKNOWN) == UNKNOWN]

    def to_meta(self) -> dict[str, Any]:
        """Returns what JSON can hold and `from_meta` reads."""
        meta = {'kind': self.kind, 'lowercase': self.lowercase, 'entries': list(self.entries)}
        return meta if self.source is None else meta | {'source': self.source.to_meta()}

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any]) -> 'Vocabulary':
        """Returns the vocabulary that `to_meta` described."""
        return cls(meta['kind'], meta['entries'], lowercase=meta['lowercase'],
                   source=cls.from_meta(meta['source']) if 'source' in meta else None)

    def difference(self, other: 'Vocabulary') -> str:
        """Returns in words where two vocabularies differ first, '' if they do not."""
        if (self.kind, self.lowercase) != (other.kind, other.lowercase):
            return f'{self.kind!r} (lowercase {self.lowercase}) and {other.kind!r} (lowercase {other.lowercase})'
        for number, (ours, theirs) in enumerate(zip(self.entries, other.entries)):
            if ours != theirs:
                return f'token {number} is {ours!r} and {theirs!r}'
        if self.size != other.size:
            return f'{self.size:,} and {other.size:,} tokens'
        if self.source is None or other.source is None:
            return '' if self.source is other.source else 'one of them translates'
        return self.source.difference(other.source)
