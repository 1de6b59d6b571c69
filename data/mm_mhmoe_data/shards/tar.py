"""Reading tar shards from the first header to the trailer.

A sample is a group of members `KEY.ext` that follow one another. The reader is our own because the usual one
ends silently on a shard that was cut or joined.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

from mm_mhmoe_data.shards.errors import ShardError
from mm_mhmoe_data.shards.writer import Sample

BLOCK = 512
MAX_MEMBER_BYTES = 64 * 1024 * 1024


def check_shard(path: Path) -> int:
    """Walk all headers and the trailer; returns the number of samples. Raises `ShardError`."""
    return sum(1 for _ in iter_samples(path))


def iter_samples(path: Path, *, max_member_bytes: int = MAX_MEMBER_BYTES) -> Iterator[Sample]:
    """The samples of one shard in order. Raises `ShardError` as soon as something is wrong with the file.

    Checked: every header's checksum, that data and trailer (1024 zero bytes) are complete, that nothing but
    zeros follows, that members are plain files of bounded size, that no key comes back and no member twice.
    """
    key = ""
    parts: dict[str, bytes] = {}
    seen: set[str] = set()
    for name, data in _members(Path(path), max_member_bytes):
        this_key, extension = split_name(name)
        if not extension or not this_key:
            raise ShardError(path, f"member {name!r} has no key or no extension")
        if this_key != key:
            if parts:
                yield Sample(key=key, parts=parts)
            if this_key in seen:
                raise ShardError(path, f"the members of {this_key!r} are not next to each other")
            seen.add(this_key)
            key, parts = this_key, {}
        if extension in parts:
            raise ShardError(path, f"member {name!r} occurs twice")
        parts[extension] = data
    if parts:
        yield Sample(key=key, parts=parts)


def split_name(name: str) -> tuple[str, str]:
    """("dir/photo", "v2.jpg") for "dir/photo.v2.jpg": the key ends at the first dot of the base name."""
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return (folder + slash + stem if stem else ""), extension.lower()


def _members(path: Path, max_member_bytes: int) -> Iterator[tuple[str, bytes]]:
    size = path.stat().st_size
    if size == 0 or size % BLOCK:
        raise ShardError(path, f"its size of {size} bytes is not a whole number of {BLOCK}-byte blocks: it was cut")
    with path.open("rb") as file:
        while True:
            offset = file.tell()
            header = file.read(BLOCK)
            if len(header) < BLOCK:
                raise ShardError(path, "it ends without the 1024 zero bytes that close a tar file: it was cut")
            if not any(header):
                _check_trailer(path, file.read(), offset)
                return
            file.seek(offset)
            member = _next_member(path, file, offset)
            if not member.isfile():
                raise ShardError(path, f"member {member.name!r} is not a plain file")
            if member.size > max_member_bytes:
                raise ShardError(path, f"member {member.name!r} has {member.size} bytes, more than {max_member_bytes}")
            padded = -(-member.size // BLOCK) * BLOCK
            if member.offset_data + padded > size:
                raise ShardError(path, f"the data of member {member.name!r} is cut short")
            file.seek(member.offset_data)
            yield member.name, file.read(member.size)
            file.seek(member.offset_data + padded)


class _OneMember(tarfile.TarFile):
    """Only here to give `TarInfo.fromtarfile` the attributes it reads."""

    def __init__(self, file: object, offset: int) -> None:
        self.fileobj = file  # type: ignore[assignment]
        self.offset = offset
        self.encoding, self.errors, self.pax_headers = "utf-8", "surrogateescape", {}
        self.tarinfo = tarfile.TarInfo
        self.ignore_zeros = False


def _next_member(path: Path, file: object, offset: int) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.fromtarfile(_OneMember(file, offset))
    except tarfile.TarError as error:
        raise ShardError(path, f"the header at byte {offset} is damaged ({error})") from error
    except (ValueError, OverflowError) as error:
        raise ShardError(path, f"the header at byte {offset} cannot be read") from error


def _check_trailer(path: Path, rest: bytes, offset: int) -> None:
    if len(rest) < BLOCK:
        raise ShardError(path, "its closing 1024 zero bytes are incomplete: it was cut")
    if rest.strip(b"\0"):
        raise ShardError(path, f"data follows its end at byte {offset}: two tar files may have been joined")
