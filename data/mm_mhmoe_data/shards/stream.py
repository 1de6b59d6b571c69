"""The samples of one shard from a stream that is read once from its beginning: a pipe, or a file of another machine.

The standard library reads the members, since webdataset's reader takes a damaged header for the end and loads members
of any size; what `walk` checks in files is checked here too, the end of a stream when it is reached.
"""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import Iterator
from typing import Any

from mm_mhmoe_data.shards.errors import ShardError
from mm_mhmoe_data.shards.location import Shard
from mm_mhmoe_data.shards.remote import RemoteError, patiently
from mm_mhmoe_data.shards.tar import group_members
from mm_mhmoe_data.shards.walk import BLOCK, MAX_MEMBER_BYTES, Member
from mm_mhmoe_data.shards.writer import Sample

_CHUNK = 1 << 20


def stream_shard(shard: Shard, *, max_member_bytes: int = MAX_MEMBER_BYTES) -> Iterator[Sample]:
    """The samples of a shard as they arrive. A cut at its end shows only after the last whole sample.

    Raises:
        ShardError: it is damaged, breaks off, or its command fails.
        RemoteError: it cannot be opened.
    """
    stream = _Watched(_open(shard))
    try:
        contents: dict[int, bytes] = {}
        for key, parts in group_members(shard.location, _members(shard, stream, contents, max_member_bytes)):
            yield Sample(key=key, parts={name: contents.pop(member.offset) for name, member in parts.items()})
        _closed(shard, stream)
    finally:
        with contextlib.suppress(Exception):  # a command that is not read to its end fails for that reason
            stream.close()


def _open(shard: Shard) -> Any:
    """The only place that runs commands, for those in `pipe:` shards."""
    if shard.is_pipe:
        from webdataset.gopen import Pipe

        return Pipe(shard.location.removeprefix("pipe:"), mode="rb", shell=True)
    if not shard.is_remote:
        return shard.local().open("rb")
    options = {"block_size": 0} if shard.location.startswith("http") else {}  # 0: one request, read as it comes
    try:
        return patiently(shard.location, lambda files: files.open(shard.location, "rb", **options))
    except FileNotFoundError as error:
        raise RemoteError(f"{shard}: there is no such file. Check the address or the shard list") from error


def _members(shard: Shard, stream: _Watched, contents: dict[int, bytes], max_member_bytes: int) -> Iterator[Member]:
    """Members whose bytes are put into `contents` by their offset; checks the end."""
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=_CHUNK, encoding="utf-8", errors="strict") as tar:  # type: ignore[call-overload]
            for info in tar:
                if info.isdir():
                    continue
                if not info.isreg():
                    raise ShardError(shard.location, f"member {info.name!r} is not a plain file")
                if info.size > max_member_bytes:
                    raise ShardError(
                        shard.location, f"member {info.name!r} has {info.size} bytes, more than {max_member_bytes}"
                    )
                content = tar.extractfile(info).read()  # type: ignore[union-attr]
                contents[info.offset_data] = content
                yield Member(info.name, info.offset_data, info.size)
                tar.members.clear()  # type: ignore[attr-defined]
            end = tar.offset
        stream.drain()
    except (tarfile.TarError, EOFError) as error:
        raise ShardError(shard.location, f"it is damaged or cut ({error})") from error
    except ShardError:
        raise
    except Exception as error:  # each file system has errors of its own
        raise ShardError(shard.location, f"it broke off ({type(error).__name__}: {error})") from error
    if stream.last_byte > end:
        raise ShardError(shard.location, f"a damaged header or a second tar file lies at byte {end}")
    if stream.total - end < 2 * BLOCK:
        raise ShardError(shard.location, "it ends without the 1024 zero bytes that close a tar file: it was cut")


def _closed(shard: Shard, stream: _Watched) -> None:
    try:
        stream.close()
    except Exception as error:
        raise ShardError(shard.location, f"its command failed ({error})") from error


class _Watched:
    """A stream that knows how much of it was read (total), and where its last byte that is not zero ended."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.total = 0
        self.last_byte = 0

    def read(self, size: int) -> bytes:
        content: bytes = self.stream.read(size)
        if filled := len(content.rstrip(b"\0")):
            self.last_byte = self.total + filled
        self.total += len(content)
        return content

    def drain(self) -> None:
        while self.read(_CHUNK):
            pass

    def close(self) -> None:
        self.stream.close()
