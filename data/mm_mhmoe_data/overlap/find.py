"""Which pictures of one set of shards occur in another: as the same bytes, the same pixels, or nearly so.

Only the other set is held in memory, about 850 bytes a picture; the first is read shard by shard.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mm_mhmoe_data.overlap.bands import BandIndex, differing_bits
from mm_mhmoe_data.overlap.prints import Prints, joined, load, save, shard_prints
from mm_mhmoe_data.parallel import parallel
from mm_mhmoe_data.recipes.fingerprints import TWIN, changed_share

# Wider than TWIN, whose pictures were all drawn by one program: of clip-art drawn anew at another size it finds 93%
# instead of 90%, and still nothing between the demo's test and training drawings.
DISTANCE = 16
_FEW_BYTES = 16 << 20


class Match(NamedTuple):
    """A sample of the first set and one of the other.

    kinds: "bytes", "pixels", "near", or the name of a field. The rest says how near: bits that differ in the hashes,
    share of the drawn cells of the thumbnails that differ in colour.
    """

    shard: str
    key: str
    other_shard: str
    other_key: str
    kinds: tuple[str, ...]
    phash_bits: int
    dhash_bits: int
    changed: float


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """matches: of every sample of the first set that occurs in the other, the nearest picture, and those of equal ids.

    others_hit: pictures of the other set that occur in the first.
    """

    pictures: int
    others: int
    unreadable: int
    others_hit: int
    matches: list[Match]

    @property
    def counts(self) -> Counter[str]:
        """Matches by kind, and under "samples" how many samples of the first set have any."""
        kinds = Counter(kind for match in self.matches for kind in match.kinds)
        kinds["samples"] = len({(match.shard, match.key) for match in self.matches})
        return kinds


def find_overlap(
    shards: Sequence[Path],
    others: Sequence[Path],
    *,
    distance: int = DISTANCE,
    id_fields: Sequence[str] = (),
    workers: int | None = None,
    done: Callable[[], None] = lambda: None,
) -> Overlap:
    """Compares the pictures of two sets.

    Args:
        distance: bits in which perceptual hashes of near-duplicates may differ; two more for the difference hash. A
            colour thumbnail then decides, as it does for the splits of `recipes.openclipart`.
        id_fields: of the .json; equal values are matches as well.
        workers: processes; default: one for each processor.
        done: called for every shard of both sets.

    Raises:
        ShardError: a shard cannot be trusted.
    """
    parts = []
    read = partial(shard_prints, id_fields=id_fields)
    for part in parallel(read, list(others), workers=workers, few_bytes=_FEW_BYTES):
        parts.append(part)
        done()
    other = joined(parts)
    matches: list[Match] = []
    hit = np.zeros(len(other), bool)
    pictures, unreadable = 0, other.unreadable
    with tempfile.TemporaryDirectory() as folder:
        save(other, Path(folder))
        task = partial(_match_shard, folder=Path(folder), distance=distance, id_fields=tuple(id_fields))
        for found in parallel(task, list(shards), workers=workers, few_bytes=_FEW_BYTES):
            matches += found.matches
            hit[found.others_hit] = True
            pictures, unreadable = pictures + found.pictures, unreadable + found.unreadable
            done()
    return Overlap(
        pictures=pictures, others=len(other), unreadable=unreadable, others_hit=int(hit.sum()), matches=matches
    )


class _Searched:
    """The other set, ready to be looked up."""

    def __init__(self, prints: Prints, distance: int) -> None:
        self.prints = prints
        self.distance = distance
        self.bands = BandIndex(np.asarray(prints.phash_N), distance)
        # Read backwards, so that the first of several equal pictures stays.
        self.bytes = {prints.bytes_N[place].tobytes(): place for place in range(len(prints) - 1, -1, -1)}
        self.pixels = {prints.pixels_N[place].tobytes(): place for place in range(len(prints) - 1, -1, -1)}
        self.ids: dict[tuple[str, str], list[int]] = {}
        for name, value, place in prints.ids:
            self.ids.setdefault((name, value), []).append(place)


class _Found(NamedTuple):
    matches: list[Match]
    others_hit: NDArray[np.int64]
    pictures: int
    unreadable: int


@lru_cache(maxsize=1)
def _searched(folder: Path, distance: int) -> _Searched:
    """Loaded once by each process."""
    return _Searched(load(folder), distance)


def _match_shard(shard: Path, *, folder: Path, distance: int, id_fields: tuple[str, ...]) -> _Found:
    return match(shard_prints(shard, id_fields), _searched(folder, distance))


def match(mine: Prints, searched: _Searched) -> _Found:
    """The pictures of a shard against the other set."""
    other = searched.prints
    kinds: dict[tuple[int, int], list[str]] = {}
    hit: set[int] = set()
    for i in range(len(mine)):
        for kind, row, table in (("bytes", mine.bytes_N, searched.bytes), ("pixels", mine.pixels_N, searched.pixels)):
            if (place := table.get(row[i].tobytes())) is not None:
                kinds[i, place] = [kind]
                break
    exact = {i for i, _ in kinds}
    for i, places in near_twins(mine, searched):
        hit.update(places.tolist())
        if i not in exact:
            kinds[i, int(places[0])] = ["near"]
    for name, value, i in mine.ids:
        for place in searched.ids.get((name, value), ()):
            kinds.setdefault((i, place), []).append(name)
    hit.update(place for _, place in kinds)
    matches = [_as_match(mine, i, other, place, tuple(found)) for (i, place), found in sorted(kinds.items())]
    return _Found(matches, np.array(sorted(hit), np.int64), len(mine), mine.unreadable)


def near_twins(mine: Prints, searched: _Searched) -> list[tuple[int, NDArray[np.int64]]]:
    """For each picture that has any: its twins in the other set, the nearest first."""
    other, found = searched.prints, []
    for n, m in searched.bands.pairs(mine.phash_N):
        near = (
            differing_bits(mine.dhash_N[n], other.dhash_N[m]) <= searched.distance + TWIN.dhash_bits - TWIN.phash_bits
        )
        n, m = n[near], m[near]
        for i in np.unique(n):
            places = m[n == i]
            share = changed_share(mine.thumb_N[i].astype(np.int16), other.thumb_N[places].astype(np.int16))
            order = np.lexsort((differing_bits(other.phash_N[places], mine.phash_N[i]), share))
            twins = places[order][share[order] <= TWIN.changed]
            if len(twins):
                found.append((int(i), twins))
    return found


def _as_match(mine: Prints, i: int, other: Prints, place: int, kinds: tuple[str, ...]) -> Match:
    share = changed_share(mine.thumb_N[i].astype(np.int16), other.thumb_N[[place]].astype(np.int16))
    return Match(
        shard=mine.shards[mine.shard_N[i]],
        key=mine.keys[i],
        other_shard=other.shards[other.shard_N[place]],
        other_key=other.keys[place],
        kinds=kinds,
        phash_bits=int(differing_bits(mine.phash_N[i], other.phash_N[place])),
        dhash_bits=int(differing_bits(mine.dhash_N[i], other.dhash_N[place])),
        changed=round(float(share[0]), 4),
    )
