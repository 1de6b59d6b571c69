"""Documents one behind the other, cut into sequences of one length.

Legend: L length of a sequence, D documents of a language.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mm_mhmoe_data.language.tokens import TokenizedTexts
from mm_mhmoe_data.sampling import Pick, permutation


class Packed(NamedTuple):
    """One sequence, at the end of an epoch a shorter one.

    document_L: number of the document that each token is of, from 0.
    """

    language: str
    ids_L: NDArray[np.int64]
    document_L: NDArray[np.int64]


class PackedTexts:
    """The sequences of an epoch, numbered through all languages: a pure function of (seed, epoch, number).

    In each epoch, the documents of a language stand in an order of its own. A sequence begins with the last token of
    the one before, so that in an epoch every token but the first is predicted exactly once.

    Args:
        length: L, tokens of a sequence.
        shuffle: false: documents stay in the order of the shards.
    """

    def __init__(self, texts: Sequence[TokenizedTexts], length: int, *, seed: int = 0, shuffle: bool = True) -> None:
        if length < 2:
            raise ValueError(f"a sequence of length={length} predicts nothing; use 2 or more")
        self.texts = list(texts)
        self.length = length
        self.seed = seed
        self.shuffle = shuffle
        self.counts = [-(-(len(part.ids_N) - 1) // (length - 1)) for part in self.texts]
        self._ends = np.cumsum(self.counts)
        self._orders: dict[int, _DocumentOrder] = {}

    def __len__(self) -> int:
        """Sequences of an epoch, of all languages."""
        return int(self._ends[-1])

    def firsts(self) -> list[int]:
        """The number of each language's first sequence."""
        return [int(end) - count for end, count in zip(self._ends, self.counts, strict=True)]

    def language(self, number: int) -> int:
        """The place of a sequence's language in `texts`."""
        return int(np.searchsorted(self._ends, number, side="right"))

    def __call__(self, pick: Pick) -> Packed:
        language = self.language(pick.sample)
        texts, order = self.texts[language], self._order(language, pick.epoch)
        start = (pick.sample - self.firsts()[language]) * (self.length - 1)
        stop = min(start + self.length, len(texts.ids_N))
        first = int(np.searchsorted(order.ends_D, start, side="right"))
        ids, documents = [], []
        for turn in range(first, len(order.ends_D)):
            document = texts.document(int(order.index_D[turn]))
            begin = int(order.ends_D[turn]) - len(document)
            if begin >= stop:
                break
            part = document[max(0, start - begin) : stop - begin]
            ids.append(part)
            documents.append(np.full(len(part), turn - first))
        return Packed(texts.language, np.concatenate(ids).astype(np.int64), np.concatenate(documents))

    def _order(self, language: int, epoch: int) -> _DocumentOrder:
        found = self._orders.get(language)
        if found is None or found.epoch != epoch:
            lengths_D = np.diff(self.texts[language].ends_D, prepend=0)
            index_D = np.arange(len(lengths_D))
            if self.shuffle:
                index_D = permutation(len(lengths_D), self.seed, epoch, language).numpy()
            found = self._orders[language] = _DocumentOrder(epoch, index_D, np.cumsum(lengths_D[index_D]))
        return found


class _DocumentOrder(NamedTuple):
    """index_D: the document at each turn; ends_D: where it ends in the epoch's tokens."""

    epoch: int
    index_D: NDArray[np.int64]
    ends_D: NDArray[np.int64]
