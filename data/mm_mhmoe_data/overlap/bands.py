"""All pairs of 64-bit hashes that differ in few bits, without comparing all pairs where that can be avoided.

Multi-index hashing (Norouzi, Punjani and Fleet, CVPR 2012): of hashes cut into m bands, two that differ in at most r
bits differ in at most r/m bits of some band. So each band is looked up under all values within that distance. Where r
is large or there are few hashes, comparing them all is faster, and that is done.

Legend: N queries, M hashes that are searched, P probes of one query, C candidates.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise
from math import comb

import numpy as np
from numpy.typing import NDArray

BITS = 64
_QUERIES, _CANDIDATES = 256, 1 << 21
"""Looked up and compared at a time, to bound memory."""

Words = NDArray[np.uint64]
Places = NDArray[np.int64]


class BandIndex:
    """Hashes in an order for each band.

    Args:
        hash_M: what is searched.
        distance: of the pairs to find, in bits, below 32.
    """

    def __init__(self, hash_M: Words, distance: int) -> None:
        if not 0 <= distance < BITS // 2:
            raise ValueError(f"distance={distance} must be between 0 and {BITS // 2 - 1} of {BITS} bits")
        self.hash_M = hash_M
        self.distance = distance
        self.bands = [_Band(hash_M, begin, width, distance) for begin, width in _cut(len(hash_M), distance)]

    def pairs(self, hash_N: Words) -> Iterator[tuple[Places, Places]]:
        """Every (n, m) whose hashes differ in at most `distance` bits, sorted, for some of the queries at a time."""
        if not self.bands:
            for n, query in enumerate(hash_N):
                m = np.flatnonzero(differing_bits(self.hash_M, query) <= self.distance)
                if len(m):
                    yield np.full(len(m), n), m
            return
        for begin in range(0, len(hash_N), _QUERIES):
            part = hash_N[begin : begin + _QUERIES]
            found = [np.zeros((2, 0), np.int64)]
            for band in self.bands:
                for n_C, m_C in band.candidates(part):
                    near = differing_bits(part[n_C], self.hash_M[m_C]) <= self.distance
                    found.append(np.stack([n_C[near] + begin, m_C[near]]))
            n, m = np.unique(np.concatenate(found, axis=1), axis=1)  # several bands may have found a pair
            if len(n):
                yield n, m


class _Band:
    """Hashes by the value of some of their bits."""

    def __init__(self, hash_M: Words, begin: int, width: int, distance: int) -> None:
        self.shift, self.mask = np.uint64(begin), np.uint64((1 << width) - 1)
        value_M = self._value(hash_M)
        self.order_M = np.argsort(value_M, kind="stable")
        self.sorted_M = value_M[self.order_M]
        radius = distance * width // BITS  # see _cut: widths add up, so some band is within its share
        self.flips_P = np.array([f for bits in range(radius + 1) for f in _flips(width, bits)], np.uint64)

    def _value(self, hashes: Words) -> Words:
        return hashes >> self.shift & self.mask

    def candidates(self, hash_N: Words) -> Iterator[tuple[Places, Places]]:
        """Pairs whose bits here are near enough, some at a time."""
        probe = (self._value(hash_N)[:, None] ^ self.flips_P).ravel()
        begin = np.searchsorted(self.sorted_M, probe, "left")
        count = np.searchsorted(self.sorted_M, probe, "right") - begin
        hits = np.flatnonzero(count)
        edges = np.flatnonzero(np.diff(np.cumsum(count[hits]) // _CANDIDATES)) + 1
        for hit in np.split(hits, edges):
            here = count[hit]
            # The places begin, begin + 1, ... of every hit, one hit after the other.
            at_C = np.repeat(begin[hit] - np.cumsum(here) + here, here) + np.arange(here.sum())
            yield np.repeat(hit // len(self.flips_P), here), self.order_M[at_C]


def differing_bits(one: Words, other: Words) -> Places:
    """How many bits differ, elementwise: sums of 1, 2, 4 ... neighbouring bits."""
    x = one ^ other
    for bits, mask in _SUMS:
        x = (x & mask) + (x >> bits & mask)
    return x.astype(np.int64)


_SUMS = [
    (np.uint64(bits), np.uint64(int(("0" * bits + "1" * bits) * (BITS // 2 // bits), 2)))
    for bits in (1, 2, 4, 8, 16, 32)
]


def _cut(count: int, distance: int) -> list[tuple[int, int]]:
    """Bands as (first bit, bits), as many as cost least for random hashes; none where comparing all costs less."""

    def cost(bands: int) -> float:
        """Of one query. Measured: a probe costs as much as ten candidates, a candidate as ten plain comparisons."""
        total = 0.0
        for _, width in _equal(bands):
            probes = sum(comb(width, bits) for bits in range(distance * width // BITS + 1))
            total += probes * (10 + count / 2**width)
        return total

    # Wider bands than 22 bits would have too many probes to hold at once.
    best = min(range(3, 17), key=cost)
    return _equal(best) if cost(best) < count / 10 else []


def _equal(bands: int) -> list[tuple[int, int]]:
    edges = [BITS * i // bands for i in range(bands + 1)]
    return [(begin, end - begin) for begin, end in pairwise(edges)]


def _flips(width: int, bits: int) -> list[int]:
    return [sum(1 << bit for bit in chosen) for chosen in combinations(range(width), bits)]
