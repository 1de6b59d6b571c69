"""Where the indexes of shards lie, and making those that are missing.

Beside the shard (`00000.tar.index`) where someone put it there; else in a folder for indexes, so that reading shards
never writes beside them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from mm_mhmoe_data.shards.index import build_index
from mm_mhmoe_data.shards.index_file import IndexFileError, read_header, write_index

SUFFIX = ".index"
_FEW_BYTES = 64 << 20


def cache_folder() -> Path:
    """The user's folder for indexes: MM_MHMOE_CACHE, or where caches lie on this system."""
    root = os.environ.get("MM_MHMOE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "mm_mhmoe"
    return Path(root).expanduser() / "index"


def index_path(shard: Path, folder: Path | None = None) -> Path:
    """Where the index of a shard is written: beside it, or in a folder under a name that tells paths apart."""
    if folder is None:
        return shard.with_name(shard.name + SUFFIX)
    place = hashlib.blake2b(str(shard.resolve().parent).encode(), digest_size=8).hexdigest()
    return folder / place / (shard.name + SUFFIX)


def find_index(shard: Path, folder: Path | None = None) -> Path | None:
    """A valid index of the shard: beside it, or in `folder` if one is given. None if there is none."""
    places = [index_path(shard)] + ([index_path(shard, folder)] if folder else [])
    return next((path for path in places if is_valid(path, shard)), None)


def is_valid(index: Path, shard: Path) -> bool:
    """Whether the index is that of the shard as it is now: same size, and not written to since."""
    try:
        header, stat = read_header(index), shard.stat()
    except (OSError, IndexFileError):
        return False
    return (header["size"], header["mtime_ns"]) == (stat.st_size, stat.st_mtime_ns)


def index_shards(
    shards: Sequence[Path],
    folder: Path | None = None,
    *,
    workers: int | None = None,
    done: Callable[[Path], None] = lambda shard: None,
) -> list[Path]:
    """The index of every shard; those without a valid one are read, several at a time, and written to `folder`.

    Args:
        folder: None: beside the shards.
        workers: processes; default: one for each processor. Little is read in this process.
        done: called for every shard that was read.

    Raises:
        ShardError: a shard cannot be trusted. Those read before keep their indexes.
        OSError: the folder cannot be written.
    """
    found = [find_index(shard, folder) or index_path(shard, folder) for shard in shards]
    missing = [(shard, path) for shard, path in zip(shards, found, strict=True) if not is_valid(path, shard)]
    for _, path in missing:
        path.parent.mkdir(parents=True, exist_ok=True)
    workers = min(workers or os.cpu_count() or 1, len(missing))
    if workers < 2 or sum(shard.stat().st_size for shard, _ in missing) < _FEW_BYTES:
        for shard, path in missing:
            _index_one(shard, path)
            done(shard)
        return found
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for shard, future in [(shard, pool.submit(_index_one, shard, path)) for shard, path in missing]:
            future.result()
            done(shard)
    return found


def _index_one(shard: Path, path: Path) -> None:
    write_index(build_index(shard), path)
