"""How many samples the files beside shards say there are, against what their indexes say.

A shard that was read to its end can still be another one than the list means: an older one, or one that was replaced.
"""

from __future__ import annotations

import json
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mm_mhmoe_data.shards.errors import ShardError
from mm_mhmoe_data.shards.location import Shard, Stated
from mm_mhmoe_data.shards.places import join, parent, read_small

SIZES_FILE, LENGTH_FILE, STATS_SUFFIX = "sizes.json", "__len__", "_stats.json"


def check_counts(shards: Sequence[Shard], samples: Sequence[int]) -> None:
    """Compares the samples of each shard with `_info.json`, `sizes.json` and img2dataset's `NNNNN_stats.json`.

    Of remote folders only `sizes.json` is read. A wrong total in `__len__`, which is often an estimate, is a warning.

    Raises:
        ShardError: a shard holds more or fewer than stated; names both.
    """
    folders: dict[str, list[int]] = defaultdict(list)
    for number, shard in enumerate(shards):
        folders[parent(shard.location)].append(number)
    for folder, members in folders.items():
        sizes = _json_object(join(folder, SIZES_FILE))
        for number in members:
            shard = shards[number]
            for stated in (shard.stated, _of_sizes(sizes, shard, folder), _of_stats(shard)):
                if stated and stated.samples != samples[number]:
                    raise ShardError(
                        shard.location,
                        f"it holds {samples[number]} samples, but {stated.by} says {stated.samples}; one of the two is "
                        "out of date (if it is the list, correct or delete that)",
                    )
        _compare_length(folder, [shards[number].name for number in members], sum(samples[n] for n in members))


def _of_sizes(sizes: dict[str, Any], shard: Shard, folder: str) -> Stated | None:
    count = sizes.get(shard.name)
    return Stated(count, join(folder, SIZES_FILE)) if isinstance(count, int) else None


def _of_stats(shard: Shard) -> Stated | None:
    if shard.is_remote:
        return None
    place = shard.location.removesuffix(".tar") + STATS_SUFFIX
    count = _json_object(place).get("successes")
    return Stated(count, place) if isinstance(count, int) else None


def _json_object(place: str) -> dict[str, Any]:
    content = read_small(place)
    try:
        value = {} if content is None else json.loads(content)
    except ValueError as error:
        warnings.warn(f"{place} cannot be read ({error}); the samples are not compared with it", stacklevel=4)
        return {}
    return value if isinstance(value, dict) else {}


def _compare_length(folder: str, names: list[str], samples: int) -> None:
    """Only where all shards of a local folder are taken: `__len__` says nothing about some of them."""
    path = Path(folder) / LENGTH_FILE
    if "://" in folder or not path.is_file() or {p.name for p in Path(folder).glob("*.tar")} != set(names):
        return
    text = path.read_text(errors="replace").strip()
    if text != str(samples):
        warnings.warn(f"{path} says {text[:40]!r} samples, but the shards hold {samples}", stacklevel=4)
