"""Runs of words and how often they occur in a caption."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

LONGEST = 4

Ngrams = Counter[tuple[str, ...]]


def count_ngrams(words: Sequence[str], longest: int = LONGEST) -> Ngrams:
    """Of one word up to `longest` words."""
    return Counter(
        tuple(words[start : start + size]) for size in range(1, longest + 1) for start in range(len(words) - size + 1)
    )
