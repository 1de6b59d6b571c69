"""Files of other machines, through fsspec: which schemes are allowed, what is asked of a server, and patience."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

EXTRAS = {"http": "", "https": "", "s3": "s3", "gs": "gs", "hf": "hf", "memory": ""}
"""The schemes that are allowed, and the extra of this package that each needs."""

PATIENCE = (1.0, 2.0, 4.0, 8.0)
"""Seconds to wait after each failure; after the last try the error is raised."""

_VERSION_FIELDS = ("ETag", "etag", "blob_id", "md5Hash", "Content-MD5", "Last-Modified", "LastModified", "created")
_MISSING = (404, 410)
_REFUSED = (401, 403, *_MISSING)
_MOST_SMALL_BYTES = 256 << 20

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class RemoteError(ValueError):
    """A remote file or folder cannot be read; the message names it and the remedy."""


class RemoteFile(NamedTuple):
    """A file as its server describes it. version: its entity tag, checksum or time; "" where none is given."""

    address: str
    size: int
    version: str


def is_remote(location: str) -> bool:
    """Whether it is an address; a path is none. Raises `ValueError` for a scheme that is not allowed."""
    scheme, mark, _ = location.partition("://")
    if not mark or "/" in scheme or scheme.startswith("pipe:"):
        return False
    if scheme not in EXTRAS:
        raise ValueError(
            f"{location}: scheme {scheme}:// is not allowed; shards are read from local paths and "
            f"{', '.join(f'{known}://' for known in EXTRAS if known != 'memory')}. Copy the shards to one of these"
        )
    return True


def file_system(address: str) -> Any:
    """The fsspec file system of an address. Asked for anew each time: fsspec keeps one for each process."""
    import fsspec

    scheme = address.partition("://")[0]
    options: dict[str, Any] = {}
    try:
        if scheme.startswith("http"):
            import aiohttp

            # Its default of five minutes for a whole file is too little for a large shard.
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
            options = {"client_kwargs": {"timeout": timeout}}
        return fsspec.filesystem(scheme, **options)
    except ImportError as error:
        extra = f"'mm-mhmoe[{EXTRAS[scheme]}]'" if EXTRAS[scheme] else "'fsspec[http]'"
        raise RemoteError(f"{address}: {scheme}:// needs another package ({error}): pip install {extra}") from error


def patiently(address: str, ask: Callable[[Any], _T]) -> _T:
    """`ask(file system)`, again after a pause when it fails, at most once more than `PATIENCE` is long.

    Raises:
        FileNotFoundError: there is no such file.
        RemoteError: it failed every time, or was refused.
    """
    for pause in (*PATIENCE, None):
        try:
            return ask(file_system(address))
        except RemoteError:
            raise
        except Exception as raised:  # each file system has errors of its own
            error = _behind(address, raised)
            if isinstance(error, FileNotFoundError):
                raise
            what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            if isinstance(error, PermissionError) or getattr(error, "status", None) in _REFUSED:
                raise RemoteError(f"{address} is not given out ({what}). Check the address and your login") from error
            if pause is None:
                raise RemoteError(
                    f"{address} cannot be read after {len(PATIENCE) + 1} tries ({what}). "
                    "Check the network and the address, then run the same command again"
                ) from error
            _log.warning("%s: %s; trying again in %g s", address, what, pause)
            time.sleep(pause)
    raise AssertionError("unreachable")


def _behind(address: str, error: Exception) -> Exception:
    """fsspec says that a file is missing whenever a web server cannot be asked about it; what failed is its cause."""
    cause = error.__cause__
    if not address.startswith("http") or not isinstance(error, FileNotFoundError) or not isinstance(cause, Exception):
        return error
    return error if getattr(cause, "status", None) in _MISSING else cause


def describe(address: str) -> RemoteFile:
    """Size and version of a file. Raises `RemoteError` if there is none, or its server does not tell its size."""
    try:
        info = patiently(address, lambda files: files.info(address))
    except FileNotFoundError as error:
        raise RemoteError(f"{address}: there is no such file. Check the address or the shard list") from error
    if info.get("type") == "directory" or not isinstance(info.get("size"), int):
        raise RemoteError(f"{address}: its server tells no size of a file. Copy it to this machine, or stream it")
    version = next((str(info[name]) for name in _VERSION_FIELDS if info.get(name)), "")
    return RemoteFile(address, info["size"], version)


def download(file: RemoteFile, path: Path) -> None:
    """Writes the file's bytes to `path`, from the beginning after each failure."""

    def get(files: Any) -> None:
        files.get_file(file.address, str(path))
        if path.stat().st_size != file.size:
            raise OSError(f"{path.stat().st_size} of {file.size} bytes came")

    try:
        patiently(file.address, get)
    except FileNotFoundError as error:
        raise RemoteError(f"{file.address}: the file is no longer there") from error


def read_small(address: str) -> bytes | None:
    """A list or an index, whole; None where there is no such file or it is not given out."""

    def cat(files: Any) -> bytes:
        if address.startswith("http"):  # one request instead of two
            return files.cat_file(address)
        size = files.info(address)["size"]
        if size > _MOST_SMALL_BYTES:
            raise RemoteError(f"{address} has {size} bytes; at most {_MOST_SMALL_BYTES} are read of such a file")
        return files.cat_file(address)

    try:
        return patiently(address, cat)
    except FileNotFoundError:
        return None
    except RemoteError as error:
        if getattr(error.__cause__, "status", None) in _REFUSED or isinstance(error.__cause__, PermissionError):
            return None  # public buckets answer so for files that are not there
        raise


def files_in(folder: str) -> list[str]:
    """Addresses of what lies in a folder; empty where there is no such folder or it cannot be listed."""

    def listing(files: Any) -> list[str]:
        return [files.unstrip_protocol(name) for name in files.ls(folder, detail=False)]

    try:
        return sorted(patiently(folder.rstrip("/"), listing))
    except FileNotFoundError:
        return []


def matches(pattern: str) -> list[str]:
    """Addresses that a glob names."""
    try:
        return sorted(patiently(pattern, lambda files: [files.unstrip_protocol(name) for name in files.glob(pattern)]))
    except FileNotFoundError:
        return []
