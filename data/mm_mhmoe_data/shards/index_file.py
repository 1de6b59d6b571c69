"""The index of a shard as a file: a line of JSON behind its checksum, then the arrays."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from mm_mhmoe_data.shards.index import ShardIndex
from mm_mhmoe_data.whole_file import whole_file

_MAGIC = b"mm-mhmoe shard index 1\n"
_ARRAYS = ("key_end_n", "flag_n", "member_end_n", "extension_M", "block_M", "size_M")
_MAX_HEADER_BYTES = 1 << 20


class IndexFileError(ValueError):
    """An index file is damaged or of another version. It can be made again from its shard."""


def write_index(index: ShardIndex, path: Path) -> None:
    """Appears under its name only when it is complete."""
    arrays = [np.frombuffer(index.keys, np.uint8), *(getattr(index, name) for name in _ARRAYS)]
    content = b"".join(array.tobytes() for array in arrays)
    header = {
        "samples": len(index),
        "flags": {str(flags): count for flags, count in index.flag_counts.items()},
        "size": index.size,
        "mtime_ns": index.mtime_ns,
        "sha256": index.sha256,
        "extensions": index.extensions,
        "arrays": [[array.dtype.str, len(array)] for array in arrays],
        "crc32": zlib.crc32(content),
    }
    with whole_file(path) as temporary:
        line = json.dumps(header).encode()
        temporary.write_bytes(_MAGIC + b"%08x %s\n" % (zlib.crc32(line), line) + content)


def read_header(path: Path) -> dict[str, Any]:
    """Counts, size, time and checksum, without the arrays. Raises `IndexFileError`."""
    with path.open("rb") as file:
        if file.readline(len(_MAGIC)) != _MAGIC:
            raise IndexFileError(f"{path} is no index file of this version")
        try:
            stated, _, line = file.readline(_MAX_HEADER_BYTES).partition(b" ")
            if int(stated, 16) != zlib.crc32(line.removesuffix(b"\n")):
                raise ValueError("bad checksum")
            header = json.loads(line)
        except ValueError as error:
            raise IndexFileError(f"{path} is damaged ({error})") from error
        header["flags"] = {int(flags): count for flags, count in header["flags"].items()}
        header["begin"] = file.tell()
        return header


def read_index(path: Path) -> ShardIndex:
    """The whole index. Raises `IndexFileError`."""
    header = read_header(path)
    content = path.read_bytes()[header["begin"] :]
    if zlib.crc32(content) != header["crc32"]:
        raise IndexFileError(f"{path} is damaged (bad checksum)")
    arrays, at = [], 0
    for dtype, count in header["arrays"]:
        arrays.append(np.frombuffer(content, dtype, count, at))
        at += arrays[-1].nbytes
    return ShardIndex(
        size=header["size"],
        mtime_ns=header["mtime_ns"],
        sha256=header["sha256"],
        extensions=tuple(header["extensions"]),
        keys=arrays[0].tobytes(),
        **dict(zip(_ARRAYS, arrays[1:], strict=True)),
    )
