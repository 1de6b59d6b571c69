"""Files that are whole or not there, and what identifies them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..whole_file import whole_file

TEMPORARY = ".*.tmp"
_EDGE = 1 << 16


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` beside `path`, sync it, and move it there."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sha256(path: Path) -> str:
    """The SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def edges(path: Path) -> str:
    """A digest of size, beginning and end: sees a file that was cut, emptied or replaced, at the cost of two reads."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(_EDGE))
        file.seek(max(size - _EDGE, 0))
        digest.update(file.read(_EDGE))
    return digest.hexdigest()


def listing(root: Path, files: Iterable[Path]) -> dict[str, Any]:
    """What identifies a source without reading it: how many files, how many bytes, a digest of names and sizes."""
    digest = hashlib.sha256()
    count = size = 0
    for path in sorted(files):
        this = path.stat().st_size
        digest.update(f"{path.relative_to(root).as_posix()}\0{this}\n".encode())
        count, size = count + 1, size + this
    return {"files": count, "bytes": size, "names_and_sizes_sha256": digest.hexdigest()}
