"""Where the indexes of shards lie, and making those that are missing.

Beside the shard (`00000.tar.index`) where someone put it there; else in a folder for indexes, so that reading shards
never writes beside them. Of a remote shard with an index beside it only the index is fetched.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from mm_mhmoe_data.parallel import map_in_order
from mm_mhmoe_data.shards.cache import cache_root, remote_key
from mm_mhmoe_data.shards.index import build_index
from mm_mhmoe_data.shards.index_file import IndexFileError, read_header, read_index, write_index
from mm_mhmoe_data.shards.location import Shard
from mm_mhmoe_data.shards.remote import read_small

SUFFIX = ".index"
_FEW_BYTES = 64 << 20
_REQUESTS = 16

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


def cache_folder() -> Path:
    """The user's folder for indexes."""
    return cache_root() / "index"


def index_path(shard: Shard, folder: Path | None = None) -> Path:
    """Where the index of a shard is written: beside it, or in a folder under a name that tells paths apart.

    Nothing is written beside remote shards: without a folder it is the user's. Their names tell versions apart too.
    """
    if remote := shard.found().remote:
        return (folder or cache_folder()) / remote_key(remote) / (shard.name + SUFFIX)
    path = shard.local()
    if folder is None:
        return path.with_name(path.name + SUFFIX)
    place = hashlib.blake2b(str(path.resolve().parent).encode(), digest_size=8).hexdigest()
    return folder / place / (path.name + SUFFIX)


def find_index(shard: Shard, folder: Path | None = None) -> Path | None:
    """A valid index of the shard: beside it, or in `folder` if one is given. None if there is none."""
    shard = shard.found()
    if shard.remote:
        path = index_path(shard, folder)
        return path if is_valid(path, shard) or _fetch_index(shard, path) else None
    places = [index_path(shard)] + ([index_path(shard, folder)] if folder else [])
    return next((path for path in places if is_valid(path, shard)), None)


def is_valid(index: Path, shard: Shard) -> bool:
    """Whether the index is that of the shard as it is now: same size, and not written to since.

    A copy on another machine has a time of its own: there the size must do until the shard is fetched, and its sha256
    compared.
    """
    try:
        header = read_header(index)
        if shard.remote:
            return header["size"] == shard.remote.size
        stat = shard.local().stat()
    except (OSError, IndexFileError):
        return False
    return (header["size"], header["mtime_ns"]) == (stat.st_size, stat.st_mtime_ns)


def find_all(shards: Sequence[Shard]) -> list[Shard]:
    """Remote shards with size and version; many servers' answers are waited for at the same time."""
    return _each(Shard.found, shards)


def index_shards(
    shards: Sequence[Shard],
    folder: Path | None = None,
    *,
    workers: int | None = None,
    done: Callable[[Shard], None] = lambda shard: None,
) -> list[Path]:
    """The index of every shard; those without a valid one are read, several at a time, and written to `folder`.

    Args:
        folder: None: beside the shards; the user's folder for those of other machines.
        workers: processes; default: one for each processor. Little is read in this process.
        done: called for every shard that was read.

    Raises:
        ShardError: a shard cannot be trusted. Those read before keep their indexes.
        RemoteError: a shard cannot be fetched.
        OSError: the folder cannot be written.
    """
    shards = find_all(shards)
    known = _each(lambda shard: find_index(shard, folder), shards)
    found = [path or index_path(shard, folder) for shard, path in zip(shards, known, strict=True)]
    missing = [(shard, place) for shard, place, path in zip(shards, found, known, strict=True) if path is None]
    for _, path in missing:
        path.parent.mkdir(parents=True, exist_ok=True)
    if sum(_size(shard) for shard, _ in missing) < _FEW_BYTES:
        workers = 1
    with closing(map_in_order(_index_one, missing, workers)) as indexed:
        for shard in indexed:
            done(shard)
    return found


def _index_one(which: tuple[Shard, Path]) -> Shard:
    shard, path = which
    write_index(shard.use(build_index), path)
    return shard


def _size(shard: Shard) -> int:
    return shard.remote.size if shard.remote else shard.local().stat().st_size


def _fetch_index(shard: Shard, path: Path) -> bool:
    """Takes the index that lies beside a remote shard to `path`, if there is one of a shard of this size."""
    address, mark, login = shard.location.partition("?")
    content = read_small(address + SUFFIX + mark + login)
    if content is None:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")  # a shard may be named twice
    try:
        temporary.write_bytes(content)
        if not (is_valid(temporary, shard) and _is_whole(temporary)):
            _log.warning("%s%s is not the index of the shard beside it; the shard is read instead", address, SUFFIX)
            return False
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _is_whole(index: Path) -> bool:
    try:
        read_index(index)
    except IndexFileError:
        return False
    return True


def _each(do: Callable[[Shard], _T], shards: Sequence[Shard]) -> list[_T]:
    if not any(shard.is_remote for shard in shards):
        return [do(shard) for shard in shards]
    with ThreadPoolExecutor(_REQUESTS) as pool:
        return list(pool.map(do, shards))
