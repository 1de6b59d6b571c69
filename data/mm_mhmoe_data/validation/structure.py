"""The members of a tar file, also of a damaged one: where the chain of headers breaks, it is taken up again."""

from __future__ import annotations

from pathlib import Path
from typing import IO, NamedTuple

from mm_mhmoe_data.shards.header import BLOCK, checksum_holds
from mm_mhmoe_data.shards.walk import DamageError, Member, Scan, walk

_MOST_BREAKS = 200
_CHUNK = 1 << 22
_MAGIC, _MAGIC_AT = b"ustar", 257
_OTHER_FILES = {
    b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip",
    b"PAR1": "Parquet", b"version https://git-lfs": "a pointer of Git LFS", b"<": "HTML or XML",
}  # fmt: skip


class Break(NamedTuple):
    """Where members may be missing. place: members in front; doubtful: whether the last of these may be spoilt."""

    place: int
    doubtful: bool


class Survey(NamedTuple):
    """Members in order, what is wrong, where members may be missing. sha256: empty if something is wrong."""

    members: list[Member]
    damages: list[DamageError]
    breaks: list[Break]
    sha256: str


def other_file(path: Path) -> str | None:
    """What a file is, by its first bytes, if it is no tar."""
    with path.open("rb") as file:
        begin = file.read(32)
    return next((name for magic, name in _OTHER_FILES.items() if begin.startswith(magic)), None)


def survey(path: Path) -> Survey:
    """What a strict reader finds, and behind each damage what it would find from the next sound header on."""
    try:
        walked = walk(path)
        return Survey(walked.members, [], [], walked.sha256)
    except DamageError:
        pass
    members: list[Member] = []
    damages: list[DamageError] = []
    breaks: list[Break] = []
    with path.open("rb", buffering=0) as file:
        size = path.stat().st_size
        begin: int | None = 0
        while begin is not None and len(breaks) < _MOST_BREAKS:
            begin = _take_up(path, file, size, begin, members, damages, breaks)
    if begin is not None:
        problem = f"it is damaged in more than {_MOST_BREAKS} places, of which the others were not looked at"
        damages.append(DamageError(path, problem, "header", begin))
    if size % BLOCK and not damages:
        problem = f"its size of {size} bytes is not a whole number of {BLOCK}-byte blocks: it was cut"
        damages.append(DamageError(path, problem, "cut", size))
    return Survey(members, damages, breaks, "")


def _take_up(
    path: Path,
    file: IO[bytes],
    size: int,
    begin: int,
    members: list[Member],
    damages: list[DamageError],
    breaks: list[Break],
) -> int | None:
    """Reads from one header to the next break; returns where the header behind that lies."""
    skipped: list[tuple[DamageError, int]] = []
    scan = Scan(path, file, size, begin=begin, report=lambda error: skipped.append((error, len(scan.members))))
    end: DamageError | None = None
    try:
        scan.run()
    except DamageError as error:
        end = error
    before = len(members)
    members += scan.members
    for damage, place in skipped:
        # What stood behind a header with a wrong checksum in the same chunk was read by a wrong chain.
        if end is None or end.kind != "header" or damage.at < end.at:
            damages.append(damage)
            breaks.append(Break(before + place, False))
    if end is None:
        return None
    damages.append(end)
    following = (
        _find_header(file, size, end.at + 1) if end.kind in ("header", "joined", "cut") and end.at < size else None
    )
    doubtful = end.kind == "header" and not _looks_like_header(file, end.at)
    breaks.append(Break(len(members), doubtful))
    return following


def _looks_like_header(file: IO[bytes], at: int) -> bool:
    """A header with a few wrong bytes stands where it belongs; anything else there means that bytes moved."""
    file.seek(at + _MAGIC_AT)
    return file.read(len(_MAGIC)) == _MAGIC


def _find_header(file: IO[bytes], size: int, begin: int) -> int | None:
    """The first sound header at or after byte `begin`: at any byte, since a lost byte moves all that follow."""
    while begin < size:
        file.seek(begin)
        chunk = file.read(_CHUNK + BLOCK)
        found = chunk.find(_MAGIC, _MAGIC_AT)
        while found != -1 and found - _MAGIC_AT + BLOCK <= len(chunk):
            at = found - _MAGIC_AT
            if checksum_holds(chunk[at : at + BLOCK]):
                return begin + at
            found = chunk.find(_MAGIC, found + 1)
        begin += _CHUNK
    return None
