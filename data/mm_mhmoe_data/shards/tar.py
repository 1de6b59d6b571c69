"""Samples of a tar shard: groups of members `KEY.ext` that follow one another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from mm_mhmoe_data.shards.errors import ShardError
from mm_mhmoe_data.shards.walk import MAX_MEMBER_BYTES, Member, walk
from mm_mhmoe_data.shards.writer import Sample


def split_name(name: str) -> tuple[str, str]:
    """("dir/photo", "v2.jpg") for "dir/photo.v2.jpg": the key ends at the first dot of the base name."""
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return (folder + slash + stem if stem else ""), extension.lower()


def group_members(path: Path | str, members: Iterable[Member]) -> Iterator[tuple[str, dict[str, Member]]]:
    """The key of every sample and its members by extension, in order.

    Raises `ShardError` where a member has no key or extension or comes twice, or where the members of a key are not
    next to each other.
    """
    key, parts, seen = "", dict[str, Member](), set[str]()
    for member in members:
        this_key, extension = split_name(member.name)
        if not extension or not this_key:
            raise ShardError(path, f"member {member.name!r} has no key or no extension")
        if this_key != key:
            if parts:
                yield key, parts
            if this_key in seen:
                raise ShardError(path, f"the members of {this_key!r} are not next to each other")
            seen.add(this_key)
            key, parts = this_key, {}
        if extension in parts:
            raise ShardError(path, f"member {member.name!r} occurs twice")
        parts[extension] = member
    if parts:
        yield key, parts


def check_shard(path: Path) -> int:
    """Walk all headers and the trailer; returns the number of samples. Raises `ShardError`."""
    return sum(1 for _ in group_members(path, walk(path).members))


def iter_samples(path: Path, *, max_member_bytes: int = MAX_MEMBER_BYTES) -> Iterator[Sample]:
    """The samples of one shard in order, once the whole file was checked. Raises `ShardError`."""
    path = Path(path)
    members = walk(path, max_member_bytes=max_member_bytes).members
    with path.open("rb") as file:
        for key, parts in group_members(path, members):
            content = {}
            for extension, member in parts.items():
                file.seek(member.offset)
                content[extension] = file.read(member.size)
            yield Sample(key=key, parts=content)
