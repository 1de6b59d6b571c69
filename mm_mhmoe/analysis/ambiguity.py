"""How ambiguous the words of captions are, told from the categories of the pictures that they describe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

WORD_START = "\u2581"


def words_of_pieces(pieces: Sequence[str]) -> list[tuple[str, list[int]]]:
    """SentencePiece pieces put together: each word, without punctuation at its ends, and the places of its pieces.

    Pieces of punctuation alone, and words without a letter or digit, are left out.
    """
    grouped: list[tuple[str, list[int]]] = []
    for place, piece in enumerate(pieces):
        if piece.startswith(WORD_START) or not grouped:
            grouped.append(("", []))
        word, places = grouped[-1]
        text = piece.removeprefix(WORD_START)
        # A comma behind a word is no part of it, and a start mark alone belongs to the piece after it.
        grouped[-1] = (word + text, [*places, place] if any(map(str.isalnum, text)) else places)
    stripped = [("".join(_trim(word)), places) for word, places in grouped]
    return [(word, places) for word, places in stripped if word]


def _trim(word: str) -> str:
    kept = [i for i, letter in enumerate(word) if letter.isalnum()]
    return word[kept[0] : kept[-1] + 1] if kept else ""


def word_categories(captions: Iterable[tuple[Iterable[str], str]]) -> dict[str, Counter[str]]:
    """Word -> category -> in how many captions it stands there, from (words, category) of each caption."""
    found: dict[str, Counter[str]] = {}
    for words, category in captions:
        for word in set(words):
            found.setdefault(word, Counter())[category] += 1
    return found


def ambiguity(categories: Mapping[str, int]) -> float:
    """Chance that two captions with the word describe pictures of different categories, drawn without replacement.

    0: the word belongs to one category; near 1: it tells nothing about it. Unlike the plug-in entropy of the
    categories, it has the same expectation for rare and for frequent words (Simpson's index, unbiased).

    Raises:
        ValueError: there are fewer than two captions.
    """
    total = sum(categories.values())
    if total < 2:
        raise ValueError(f"ambiguity needs two captions or more, not {total}")
    same = sum(count * (count - 1) for count in categories.values())
    return 1.0 - same / (total * (total - 1))
