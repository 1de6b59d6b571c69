"""One pass over a tar file: its members, its checksum, and whether all of it can be trusted.

What is checked: the checksum of every header, that members are plain files, that data and trailer (1024 zero bytes) are
complete, that nothing but zeros follows, and of them no more than a tar program adds. A reader that stops at the first
odd byte, as the usual ones do, loses the rest of a cut or joined shard without a word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np

from mm_mhmoe_data.shards.errors import ShardError
from mm_mhmoe_data.shards.header import (
    BLOCK,
    LONG,
    HeaderError,
    checksum_holds,
    header_sums,
    long_header,
    plain_header,
)

MAX_MEMBER_BYTES = 64 * 1024 * 1024
_CHUNK = 16384 * BLOCK
_RECORD = 20 * BLOCK  # tar programs fill the last of these with zeros
_PLAIN, _FOLDER = b"0\0", b"5"

DamageKind = Literal["cut", "header", "joined", "zeros", "special", "name", "large"]


class Member(NamedTuple):
    """A file inside a tar file: its name, where its bytes begin, how many there are."""

    name: str
    offset: int
    size: int


class Walked(NamedTuple):
    """What a pass found. size and mtime_ns are the tar file's, sha256 is of all its bytes."""

    members: list[Member]
    size: int
    mtime_ns: int
    sha256: str


class DamageError(ShardError):
    """Why a tar file cannot be trusted. at: the byte where the damage was noticed; member: whose, if that is known."""

    def __init__(
        self, path: Path | str, problem: str | None = None, kind: DamageKind = "cut", at: int = 0, member: str = ""
    ) -> None:
        super().__init__(path, problem)
        self.problem = problem or str(path)
        self.kind: DamageKind = kind
        self.at = at
        self.member = member


def _raise(error: DamageError) -> None:
    raise error


def walk(path: Path, *, max_member_bytes: int = MAX_MEMBER_BYTES) -> Walked:
    """The members of a tar file in order; folders are passed over. Raises `DamageError` if anything is wrong."""
    with path.open("rb", buffering=0) as file:
        stat = path.stat()
        if stat.st_size == 0 or stat.st_size % BLOCK:
            problem = f"its size of {stat.st_size} bytes is not a whole number of {BLOCK}-byte blocks: it was cut"
            raise DamageError(path, problem, "cut", stat.st_size)
        digest = hashlib.sha256()
        scan = Scan(path, file, stat.st_size, max_member_bytes=max_member_bytes)
        scan.run(digest.update)
    return Walked(scan.members, stat.st_size, stat.st_mtime_ns, digest.hexdigest())


def _read(file: IO[bytes], begin: int) -> bytes:
    """The next chunk, whole unless the file ends: headers lie at multiples of a block and so never straddle two."""
    file.seek(begin)
    chunk = b""
    while len(chunk) < _CHUNK and (part := file.read(_CHUNK - len(chunk))):
        chunk = chunk + part if chunk else part
    return chunk


class Scan:
    """Follows headers through one file, from byte `begin` on.

    Args:
        report: called for a member that cannot be used though the headers behind it can be found: by default it
            raises. All other damage raises, and `members` holds those in front of it.
    """

    def __init__(
        self,
        path: Path,
        file: IO[bytes],
        size: int,
        *,
        begin: int = 0,
        max_member_bytes: int = MAX_MEMBER_BYTES,
        report: Callable[[DamageError], None] = _raise,
    ) -> None:
        self.path = path
        self.file = file
        self.size = size
        self.max_member_bytes = max_member_bytes
        self.report = report
        self.members: list[Member] = []
        self.begin = begin
        self.next = begin  # where the next header lies
        self.end: int | None = None  # where the zero blocks begin

    def run(self, seen: Callable[[bytes], Any] = lambda chunk: None) -> None:
        """Reads to the end of the file; `seen` gets every chunk. Raises `DamageError`."""
        begin = self.begin
        while chunk := _read(self.file, begin):
            seen(chunk)
            self._take(chunk, begin)
            begin += len(chunk)
        self._finish(begin)

    def _take(self, chunk: bytes, begin: int) -> None:
        checked: list[int] = []
        try:
            while self.end is None and self.next < begin + len(chunk):
                at = self.next - begin
                header = chunk[at : at + BLOCK]
                if len(header) < BLOCK:
                    break
                if not any(header):
                    self.end = self.next
                    break
                checked.append(at)
                self._header(header)
        finally:  # a wrong checksum explains whatever else seems wrong
            self._check_sums(chunk, begin, checked)
        if self.end is not None and np.frombuffer(chunk, np.uint8)[max(0, self.end - begin) :].any():
            problem = f"data follows its end at byte {self.end}: two tar files may have been joined"
            raise DamageError(self.path, problem, "joined", self.end)

    def _finish(self, read: int) -> None:
        if read != self.size:
            problem = f"{read} of its {self.size} bytes could be read: it changed meanwhile"
            raise DamageError(self.path, problem, "cut", read)
        if self.end is None:
            if self.next > self.size:
                raise DamageError(self.path, "the data of its last member is cut short", "cut", self.size)
            problem = "it ends without the 1024 zero bytes that close a tar file: it was cut"
            raise DamageError(self.path, problem, "cut", self.size)
        zeros = self.size - self.end
        if zeros < 2 * BLOCK:
            problem = "its closing 1024 zero bytes are incomplete: it was cut"
            raise DamageError(self.path, problem, "cut", self.end)
        if zeros >= 2 * BLOCK + _RECORD:
            problem = f"{zeros} zero bytes follow its last member, more than a tar program writes: data may be lost"
            raise DamageError(self.path, problem, "zeros", self.end)

    def _header(self, block: bytes) -> None:
        try:
            long = block[156:157] in LONG
            kind, raw, size, offset = long_header(self.file, self.next) if long else plain_header(block, self.next)
        except HeaderError as error:
            raise DamageError(self.path, str(error), "header", error.at) from error
        header, end = self.next, offset + -(-size // BLOCK) * BLOCK
        try:
            name, proper = raw.decode("utf-8"), True
        except UnicodeDecodeError:
            name, proper = raw.decode("utf-8", "backslashreplace"), False
        if kind == _FOLDER and size == 0:
            self.next = offset
        elif offset + size > self.size:
            raise DamageError(self.path, f"the data of member {name!r} is cut short", "cut", offset, name)
        elif kind not in _PLAIN or name.endswith("/"):
            # What is no file has no bytes, whatever size a link states; a kind that nobody knows may have some.
            self.next = offset if kind in b"123456" else end
            self.report(DamageError(self.path, f"member {name!r} is not a plain file", "special", header, name))
        else:
            self.next = end
            if size > self.max_member_bytes:
                problem = f"member {name!r} has {size} bytes, more than {self.max_member_bytes}"
                self.report(DamageError(self.path, problem, "large", header, name))
            elif not proper:
                problem = f"the name of the member at byte {header} is not UTF-8"
                self.report(DamageError(self.path, problem, "name", header, name))
            else:
                self.members.append(Member(name, offset, size))

    def _check_sums(self, chunk: bytes, begin: int, headers: list[int]) -> None:
        if not headers:
            return
        whole = len(chunk) - len(chunk) % BLOCK
        blocks_NB = np.frombuffer(chunk, np.uint8, whole).reshape(-1, BLOCK)[np.array(headers) // BLOCK]
        for at, header, found in zip(headers, blocks_NB, header_sums(blocks_NB).tolist(), strict=True):
            if not checksum_holds(header.tobytes(), found):
                problem = f"the header at byte {begin + at} is damaged (bad checksum)"
                self.members = [member for member in self.members if member.offset <= begin + at]
                raise DamageError(self.path, problem, "header", begin + at) from None
