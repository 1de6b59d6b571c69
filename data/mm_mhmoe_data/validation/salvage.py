"""New shards from what is intact in damaged ones."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from mm_mhmoe_data.shards import Sample, check_shard, write_shards
from mm_mhmoe_data.shards.walk import Member
from mm_mhmoe_data.validation.samples import Group


def salvage(path: Path, groups: Sequence[Group], folder: Path) -> int:
    """Writes samples of a shard to `folder` under the shard's name; returns how many.

    Members that lay apart are put together. A second member of the same name is dropped if its bytes are equal;
    otherwise nobody knows which is right, and the sample is left out. Without samples, nothing is written. The new
    shard is held in memory until it is complete, and checked before it gets its name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{path.name}.") as temporary:
        for shard, count in write_shards(_samples(path, groups), Path(temporary), 0, max(1, len(groups))):
            check_shard(shard)
            os.replace(shard, folder / path.name)
            return count
    return 0


def read_member(file: IO[bytes], member: Member) -> bytes:
    """The bytes of a member of an open shard."""
    file.seek(member.offset)
    return file.read(member.size)


def _samples(path: Path, groups: Sequence[Group]) -> Iterator[Sample]:
    if not groups:
        return
    with path.open("rb") as file:
        for one in groups:
            parts = {extension: read_member(file, member) for extension, member in one.parts.items()}
            if all(read_member(file, member) == parts[extension] for extension, member in one.copies):
                yield Sample(key=one.key, parts=parts)
