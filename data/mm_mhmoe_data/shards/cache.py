"""Remote shards on this machine: a folder of bounded size, from which those that were not used longest go first.

Several processes may share it. One that needs a shard takes its lock, so that it is fetched once; a file appears under
its name only when it is complete. A file that is put out while another process has it open stays readable there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path

from filelock import FileLock

from mm_mhmoe_data.shards.errors import ShardError
from mm_mhmoe_data.shards.remote import RemoteError, RemoteFile, download

SIZE_VARIABLE = "MM_MHMOE_SHARD_CACHE_GB"
_DEFAULT_GB = 50.0
_LOCKS = 64
_CHUNK = 1 << 20
_STOPPED_SECONDS = 3600.0
"""A part to which nothing was added for so long belongs to a process that was stopped."""


def cache_root() -> Path:
    """The user's folder for what can be made or fetched again: MM_MHMOE_CACHE, or where caches lie on this system."""
    root = os.environ.get("MM_MHMOE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "mm_mhmoe"
    return Path(root).expanduser()


def most_bytes() -> int:
    """How large the folder may become: MM_MHMOE_SHARD_CACHE_GB, in 10^9 bytes. Raises `ValueError`."""
    text = os.environ.get(SIZE_VARIABLE) or str(_DEFAULT_GB)
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = -1.0
    if not 0 < gigabytes < 1e9:
        raise ValueError(f"{SIZE_VARIABLE}={text!r} must be a number of gigabytes above 0")
    return int(gigabytes * 1e9)


def remote_key(file: RemoteFile) -> str:
    """Tells files and their versions apart. With a version, what follows ? in an address is only how to get in."""
    address = file.address.partition("?")[0] if file.version else file.address
    parts = (address, str(file.size), file.version)
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def fetch(file: RemoteFile, sha256: str | None = None) -> Path:
    """The file in the folder for shards, fetched if it is not there.

    Args:
        sha256: what it must have when it is fetched.

    Raises:
        RemoteError: it cannot be fetched, is larger than the folder may become, or the disk is full.
        ShardError: another file came than the one described.
    """
    folder = cache_root() / "shards"
    path = folder / f"{remote_key(file)}.tar"
    if _touch(path):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{int(path.stem, 16) % _LOCKS:02d}.lock"):
        if not _touch(path):  # no other process fetched it meanwhile
            _make_room(folder, file)
            _fetch(file, path, sha256)
    return path


def _touch(path: Path) -> bool:
    """Whether it is there; if so it was used just now. Times of reading are switched off on many systems."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _make_room(folder: Path, file: RemoteFile) -> None:
    """Deletes what was not used longest until the file fits, also what stopped processes left.

    What other processes fetch at this moment stays and may make the folder larger than its bound by that much.
    """
    most = most_bytes()
    if file.size > most:
        raise RemoteError(
            f"{file.address} has {file.size:,} bytes, more than the folder for shards {folder} may hold ({most:,}); "
            f"raise {SIZE_VARIABLE}"
        )
    held = []
    for path in folder.glob("*.tar*"):
        try:
            stat = path.stat()
        except FileNotFoundError:  # another process makes room too
            continue
        held.append((stat.st_mtime, stat.st_size, path))
    total = sum(size for _, size, _ in held)
    for used, size, path in sorted(held):
        if total + file.size <= most:
            break
        if path.suffix == ".part" and time.time() - used < _STOPPED_SECONDS:
            continue
        path.unlink(missing_ok=True)
        total -= size
    if (free := shutil.disk_usage(folder).free) < file.size:
        raise RemoteError(
            f"{file.address} has {file.size:,} bytes, but {folder} has only {free:,} left. Free some, set "
            f"MM_MHMOE_CACHE to another disk, or lower {SIZE_VARIABLE}"
        )


def _fetch(file: RemoteFile, path: Path, sha256: str | None) -> None:
    temporary = path.with_suffix(".tar.part")  # under the lock: no other process writes it
    try:
        download(file, temporary)
        if sha256 is not None and sha256 != (came := _sha256(temporary)):
            raise ShardError(
                file.address,
                f"its sha256 is {came}, but {sha256} in its index: it was changed after it was indexed (if it is "
                "right, index it again)",
            )
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
