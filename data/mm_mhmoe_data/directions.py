"""Whether a text tells left from right, so that its picture must not be flipped."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache

ENGLISH = frozenset(
    {"left", "leftmost", "leftward", "leftwards", "lefthand", "clockwise", "anticlockwise"}
    | {"right", "rightmost", "rightward", "rightwards", "righthand", "counterclockwise"}
)


def says_direction(text: str, words: Collection[str] = ENGLISH) -> bool:
    """True where one of the words occurs, as a whole word and in any case.

    A word of a script without spaces (Chinese, Japanese) counts wherever its characters occur.
    """
    return bool(words) and _pattern(frozenset(words)).search(text.casefold()) is not None


@lru_cache(maxsize=8)
def _pattern(words: frozenset[str]) -> re.Pattern[str]:
    def one(word: str) -> str:
        escaped = re.escape(word.casefold())
        return escaped if "\u2e80" <= word[0] <= "\ud7ff" else rf"(?<!\w){escaped}(?!\w)"

    return re.compile("|".join(one(word) for word in sorted(words)))
