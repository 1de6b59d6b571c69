"""Headers of a tar file: their fields, and the extra headers in front of a member whose name or size is long."""

from __future__ import annotations

from typing import IO, Any, NamedTuple

import numpy as np

BLOCK = 512
LONG = b"xgLK"
"""Kinds of header that carry the name or size of the member behind them (pax, GNU)."""

_MAX_EXTRA, _MAX_EXTRA_BYTES = 4, 1 << 16


class HeaderError(ValueError):
    """A header is damaged or says what no plain file in a shard says. at: its first byte."""

    def __init__(self, at: int, problem: str) -> None:
        super().__init__(f"the header at byte {at} {problem}")
        self.at = at


class Header(NamedTuple):
    """A member as its headers describe it. offset: where its bytes begin."""

    kind: bytes
    name: bytes
    size: int
    offset: int


def plain_header(block: bytes, at: int) -> Header:
    """The header at byte `at` that needs no others. Raises `HeaderError`."""
    return Header(block[156:157], _name(block, at), _number(block[124:136], at), at + BLOCK)


def long_header(file: IO[bytes], at: int) -> Header:
    """Follows extra headers from byte `at` to the member they belong to. Raises `HeaderError`.

    What they hold is read here instead of by `tarfile`, which follows any number of them by recursion, reads as many
    bytes as they claim to have, and believes negative sizes.
    """
    name, size, first = None, None, at
    for _ in range(_MAX_EXTRA + 1):
        block = _read(file, at, BLOCK, first)
        if not checksum_holds(block):
            raise HeaderError(at, "is damaged (bad checksum)")
        kind = block[156:157]
        count = _number(block[124:136], at)
        if kind not in LONG:
            return Header(kind, _name(block, at) if name is None else name, count if size is None else size, at + BLOCK)
        if count > _MAX_EXTRA_BYTES:
            raise HeaderError(at, f"belongs to a name of {count} bytes; at most {_MAX_EXTRA_BYTES} are read")
        content = _read(file, at + BLOCK, count, first)
        found = (
            _records(content, at) if kind in b"xg" else {b"path": content.split(b"\0", 1)[0]} if kind == b"L" else {}
        )
        strange = [
            key for key in found if key.startswith(b"GNU.sparse.") or (kind == b"g" and key in (b"path", b"size"))
        ]
        if strange:
            raise HeaderError(at, f"sets {strange[0].decode('ascii', 'replace')}, which no plain file does")
        if b"path" in found:
            if name is not None:
                raise HeaderError(first, "is followed by another one that gives its member a second name")
            name = found[b"path"]
        if b"size" in found:
            size = _decimal(found[b"size"], at)
        at += BLOCK + -(-count // BLOCK) * BLOCK
    raise HeaderError(first, f"is followed by more than {_MAX_EXTRA} others for one member")


def header_sums(blocks_NB: Any) -> Any:
    """The sum of each header's bytes, with its checksum's own eight taken as spaces."""
    return blocks_NB.sum(axis=1, dtype=np.int64) - blocks_NB[:, 148:156].sum(axis=1, dtype=np.int64) + 8 * ord(" ")


def checksum_holds(block: bytes, unsigned_sum: int | None = None) -> bool:
    """Whether the checksum in a header is the sum of its bytes, which may have been computed already."""
    try:
        stated = int(block[148:156].strip(b"\0 "), 8)
    except ValueError:
        return False
    if stated == unsigned_sum:
        return True
    octets_1B = np.frombuffer(block, np.uint8)[None]
    # Some old programs added up signed bytes.
    return stated in (int(header_sums(octets_1B)[0]), int(header_sums(octets_1B.view(np.int8))[0]))


def _name(block: bytes, at: int) -> bytes:
    name = block[:100].split(b"\0", 1)[0]
    if not block[345]:
        return name
    if block[257:263] != b"ustar\0":
        raise HeaderError(at, "has a prefix to its name that some readers take and others leave")
    return block[345:500].split(b"\0", 1)[0] + b"/" + name


def _number(field: bytes, at: int) -> int:
    """Octal digits, or big-endian bytes behind 0x80."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b"\0 ")
    try:
        if digits.startswith((b"-", b"+")):
            raise ValueError("a sign")
        return int(digits or b"0", 8)
    except ValueError:
        raise HeaderError(at, "is damaged (its size is no number)") from None


def _decimal(digits: bytes, at: int) -> int:
    if not digits.isdigit() or len(digits) > 20:
        raise HeaderError(at, "is damaged (its size is no number)")
    return int(digits)


def _records(content: bytes, at: int) -> dict[bytes, bytes]:
    """pax records: `LENGTH KEY=VALUE` and a line feed, where LENGTH counts all of it."""
    found: dict[bytes, bytes] = {}
    while content.strip(b"\0"):
        length = content.partition(b" ")[0]
        if not length.isdigit() or len(length) > 8 or not len(length) + 3 < int(length) <= len(content):
            raise HeaderError(at, "is damaged (its records have no length)")
        key, equals, value = content[len(length) + 1 : int(length) - 1].partition(b"=")
        if not equals or content[int(length) - 1 : int(length)] != b"\n":
            raise HeaderError(at, "is damaged (its records do not end)")
        found[key] = value
        content = content[int(length) :]
    return found


def _read(file: IO[bytes], at: int, count: int, first: int) -> bytes:
    file.seek(at)
    content = file.read(count)
    if len(content) < count:
        raise HeaderError(first, "is cut short")
    return content
