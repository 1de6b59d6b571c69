"""The index of one shard: which samples it holds and where their bytes lie, without the bytes.

Legend: n samples, M members.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mm_mhmoe_data.shards.errors import ShardError
from mm_mhmoe_data.shards.header import BLOCK
from mm_mhmoe_data.shards.tar import group_members
from mm_mhmoe_data.shards.walk import Member, Walked, walk

IMAGE_EXTENSIONS = ("jpg", "png", "jpeg", "webp")
IMAGE, TEXT = 1, 2
"""Flags of a sample: it has a picture, it has a text that is not empty."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardIndex:
    """What a shard holds.

    size, mtime_ns, sha256: the tar file's when the index was made.
    extensions: those of its members, each once.
    keys, key_end_n: the keys as UTF-8, one after the other, and where each ends.
    flag_n: IMAGE and TEXT.
    member_end_n: where the members of each sample end in the arrays of length M.
    extension_M, block_M, size_M: number of the extension; where the bytes begin, in blocks of 512; their number.
    """

    size: int
    mtime_ns: int
    sha256: str
    extensions: tuple[str, ...]
    keys: bytes
    key_end_n: NDArray[np.uint32]
    flag_n: NDArray[np.uint8]
    member_end_n: NDArray[np.uint32]
    extension_M: NDArray[np.uint16]
    block_M: NDArray[np.uint32]
    size_M: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.flag_n)

    def key(self, place: int) -> str:
        begin = self.key_end_n[place - 1] if place else 0
        return self.keys[begin : self.key_end_n[place]].decode("utf-8")

    def members(self, place: int) -> dict[str, tuple[int, int]]:
        """Offset and size in bytes of every member of a sample, by extension."""
        those = slice(self.member_end_n[place - 1] if place else 0, self.member_end_n[place])
        extensions, blocks, sizes = (of_M[those].tolist() for of_M in (self.extension_M, self.block_M, self.size_M))
        return {
            self.extensions[extension]: (block * BLOCK, size)
            for extension, block, size in zip(extensions, blocks, sizes, strict=True)
        }

    @cached_property
    def flag_counts(self) -> dict[int, int]:
        """How many samples have each combination of flags."""
        return {flags: int(count) for flags, count in enumerate(np.bincount(self.flag_n, minlength=4)) if count}

    def places(self, needs: int) -> NDArray[np.int64]:
        """The samples that have all flags of `needs`."""
        return np.flatnonzero((self.flag_n & needs) == needs)


def build_index(path: Path) -> ShardIndex:
    """Reads a shard once from its first byte to its last. Raises `ShardError` if it cannot be trusted."""
    return index_of(path, walk(path))


def index_of(path: Path, walked: Walked) -> ShardIndex:
    """The index of a shard that was walked. Raises `ShardError` where its members make no samples."""
    extensions: dict[str, int] = {}
    keys, key_end, flag, member_end, extension, block, size = bytearray(), [], [], [], [], [], []
    for key, parts in group_members(path, walked.members):
        keys += key.encode("utf-8")
        key_end.append(len(keys))
        flag.append(_flags(parts))
        for name, member in parts.items():
            extension.append(extensions.setdefault(name, len(extensions)))
            block.append(member.offset // BLOCK)
            size.append(member.size)
        member_end.append(len(block))
    if len(extensions) > 1 << 16:
        raise ShardError(path, f"its members have {len(extensions)} different extensions; are keys taken for them?")
    return ShardIndex(
        size=walked.size,
        mtime_ns=walked.mtime_ns,
        sha256=walked.sha256,
        extensions=tuple(extensions),
        keys=bytes(keys),
        key_end_n=np.array(key_end, np.uint32),
        flag_n=np.array(flag, np.uint8),
        member_end_n=np.array(member_end, np.uint32),
        extension_M=np.array(extension, np.uint16),
        block_M=np.array(block, np.uint32),
        size_M=np.array(size, np.uint32),
    )


def _flags(parts: dict[str, Member]) -> int:
    image = any(name in parts for name in IMAGE_EXTENSIONS)
    text = "txt" in parts and parts["txt"].size > 0
    return IMAGE * image + TEXT * text
