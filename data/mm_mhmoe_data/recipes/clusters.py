"""Clusters of pictures that must stay on one side of a split, and which pictures of a cluster are kept."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from .fingerprints import SAME_PICTURE, TWIN, Fingerprints, twin_pairs
from .vocabulary import COLOURS

PER_CAPTION = 3
_EMPTY_WORDS = frozenset(
    [
        "a",
        "an",
        "the",
        "of",
        "and",
        "with",
        "in",
        "on",
        "black",
        "white",
        "simple",
        "small",
        "big",
        "old",
        "new",
        "little",
        "icon",
        "sign",
        "symbol",
    ]
)


@dataclass(frozen=True, kw_only=True)
class Item:
    """What clustering needs to know about one picture."""

    path: str
    title: str
    caption: str
    series: str


@dataclass(frozen=True, kw_only=True)
class Clusters:
    """`cluster` (per item the index of its first member), indices `kept`, and counts `dropped` by reason."""

    cluster: list[int]
    kept: list[int]
    dropped: Counter[str]


def cluster_items(items: list[Item], prints: Fingerprints) -> Clusters:
    """Union-find over equal pictures, equal titles and equal series; then thin every cluster out.

    Of pictures that look the same one stays (the one in the most specific folder); of one caption at most
    `PER_CAPTION` stay.
    """
    union = _UnionFind(len(items))
    for i, j in twin_pairs(prints, prints, TWIN):
        union.join(i, j)
    for key in (lambda item: title_key(item.title), lambda item: item.caption, lambda item: item.series):
        for group in _groups((key(item), i) for i, item in enumerate(items)):
            for i in group[1:]:
                union.join(group[0], i)
    roots = [union.find(i) for i in range(len(items))]

    order = sorted(range(len(items)), key=lambda i: _preference(items[i]))
    rank = {i: position for position, i in enumerate(order)}
    same: dict[int, list[int]] = defaultdict(list)
    for i, j in twin_pairs(prints, prints, SAME_PICTURE):
        if rank[j] < rank[i]:
            same[i].append(j)
    dropped: Counter[str] = Counter()
    kept: set[int] = set()
    captions: Counter[str] = Counter()
    for i in order:
        if any(j in kept for j in same[i]):
            dropped["near-duplicate of a kept picture"] += 1
        elif captions[items[i].caption] >= PER_CAPTION:
            dropped[f"more than {PER_CAPTION} pictures with one caption"] += 1
        else:
            kept.add(i)
            captions[items[i].caption] += 1
    return Clusters(cluster=roots, kept=sorted(kept), dropped=dropped)


def title_key(title: str) -> str:
    """Equal for titles that differ in colour, number, size, order of words or plural only."""
    words = re.findall(r"[a-z]+", title)
    kept = [word for word in words if word not in COLOURS and word not in _EMPTY_WORDS]
    if title.startswith(("flag of", "signal flag", "historic flag")) or not kept:
        kept = words  # colours and small words are all that tells flags apart
    return " ".join(sorted({word.removesuffix("s") for word in kept}))


def _preference(item: Item) -> tuple[int, int, str]:
    vague = item.path.startswith(("unsorted/", "special/", "computer/icons/applications/"))
    top_level = item.path.count("/")
    return (1 if vague else 0, -top_level, item.path)


def _groups(pairs: Iterable[tuple[Hashable, int]]) -> list[list[int]]:
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for key, i in pairs:
        groups[key].append(i)
    return list(groups.values())


class _UnionFind:
    def __init__(self, size: int) -> None:
        self.parent = list(range(size))

    def find(self, i: int) -> int:
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def join(self, i: int, j: int) -> None:
        a, b = sorted((self.find(i), self.find(j)))
        # the smaller index stays the root, so that cluster numbers do not depend on the order of joins
        self.parent[b] = a
