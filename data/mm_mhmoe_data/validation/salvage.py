"""New shards from what is intact in damaged ones."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mm_mhmoe_data.shards import Sample, check_shard, write_shards
from mm_mhmoe_data.shards.walk import Member
from mm_mhmoe_data.validation.samples import Group


def salvage(path: Path, groups: Sequence[Group], read: Callable[[Member], bytes], folder: Path) -> int:
    """Writes samples of a shard to `folder` under the shard's name; returns how many.

    Members that lay apart are put together. A second member of the same name is dropped if its bytes are equal;
    otherwise nobody knows which is right, and the sample is left out. Without samples, nothing is written. The new
    shard is held in memory until it is complete, and checked before it gets its name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / path.name
    if target.exists():
        raise FileExistsError(17, f"{target} exists already; salvage to an empty folder", str(target))
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{path.name}.") as temporary:
        written = write_shards(_samples(groups, read), Path(temporary), 0, max(1, len(groups)))
        for shard, count in written:
            check_shard(shard)
            os.replace(shard, target)
            return count
    return 0


def _samples(groups: Sequence[Group], read: Callable[[Member], bytes]) -> Iterator[Sample]:
    for one in groups:
        parts = {extension: read(member) for extension, member in one.parts.items()}
        if all(read(member) == parts[extension] for extension, member in one.copies):
            yield Sample(key=one.key, parts=parts)
