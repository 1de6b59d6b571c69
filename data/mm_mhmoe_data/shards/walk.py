"""One pass over a tar file: its members, its checksum, and whether all of it can be trusted.

What is checked: the checksum of every header, that members are plain files, that data and trailer (1024 zero bytes) are
complete, that nothing but zeros follows. A reader that stops at the first odd byte, as the usual ones do, loses the
rest of a cut or joined shard without a word.
"""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from mm_mhmoe_data.shards.errors import ShardError

BLOCK = 512
MAX_MEMBER_BYTES = 64 * 1024 * 1024
_CHUNK = 16384 * BLOCK
_PLAIN, _FOLDER, _LONG_NAME = b"0\0", b"5", b"xgLK"


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


def walk(path: Path, *, max_member_bytes: int = MAX_MEMBER_BYTES) -> Walked:
    """The members of a tar file in order; folders are passed over. Raises `ShardError` if anything is wrong."""
    with path.open("rb", buffering=0) as file:
        stat = path.stat()
        if stat.st_size == 0 or stat.st_size % BLOCK:
            raise ShardError(
                path, f"its size of {stat.st_size} bytes is not a whole number of {BLOCK}-byte blocks: it was cut"
            )
        scan, digest, begin = _Scan(path, file, stat.st_size, max_member_bytes), hashlib.sha256(), 0
        while chunk := _read(file, begin):
            digest.update(chunk)
            scan.take(chunk, begin)
            begin += len(chunk)
        scan.finish(begin)
    return Walked(scan.members, stat.st_size, stat.st_mtime_ns, digest.hexdigest())


def _read(file: IO[bytes], begin: int) -> bytes:
    """The next chunk, whole unless the file ends: headers lie at multiples of a block and so never straddle two."""
    file.seek(begin)
    chunk = b""
    while len(chunk) < _CHUNK and (part := file.read(_CHUNK - len(chunk))):
        chunk = chunk + part if chunk else part
    return chunk


class _Scan:
    """Follows headers through the chunks of one file."""

    def __init__(self, path: Path, file: IO[bytes], size: int, max_member_bytes: int) -> None:
        self.path = path
        self.file = file
        self.size = size
        self.max_member_bytes = max_member_bytes
        self.members: list[Member] = []
        self.next = 0  # where the next header lies
        self.end: int | None = None  # where the zero blocks begin

    def take(self, chunk: bytes, begin: int) -> None:
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
            raise ShardError(self.path, f"data follows its end at byte {self.end}: two tar files may have been joined")

    def finish(self, read: int) -> None:
        if read != self.size:
            raise ShardError(self.path, f"{read} of its {self.size} bytes could be read: it changed meanwhile")
        if self.next > self.size:
            raise ShardError(self.path, f"the data of member {self.members[-1].name!r} is cut short")
        if self.end is None:
            raise ShardError(self.path, "it ends without the 1024 zero bytes that close a tar file: it was cut")
        if self.size - self.end < 2 * BLOCK:
            raise ShardError(self.path, "its closing 1024 zero bytes are incomplete: it was cut")

    def _header(self, header: bytes) -> None:
        kind = header[156:157]
        if kind in _LONG_NAME or header[124] & 0x80:
            kind, member = self._long()
        else:
            member = Member(self._name(header), self.next + BLOCK, self._number(header[124:136]))
        if member.offset + member.size > self.size:
            raise ShardError(self.path, f"the data of member {member.name!r} is cut short")
        if kind == _FOLDER:
            self.next = member.offset
            return
        if kind not in _PLAIN or member.name.endswith("/"):
            raise ShardError(self.path, f"member {member.name!r} is not a plain file")
        if member.size > self.max_member_bytes:
            raise ShardError(
                self.path, f"member {member.name!r} has {member.size} bytes, more than {self.max_member_bytes}"
            )
        self.members.append(member)
        self.next = member.offset + -(-member.size // BLOCK) * BLOCK

    def _name(self, header: bytes) -> str:
        name = header[:100].split(b"\0", 1)[0]
        if header[257:263] == b"ustar\0" and header[345]:
            name = header[345:500].split(b"\0", 1)[0] + b"/" + name
        try:
            return name.decode("utf-8")
        except UnicodeDecodeError:
            raise ShardError(self.path, f"the name of the member at byte {self.next} is not UTF-8") from None

    def _number(self, octal: bytes) -> int:
        try:
            number = int(octal.strip(b"\0 ") or b"0", 8)
        except ValueError:
            number = -1
        if number < 0:
            raise ShardError(self.path, f"the header at byte {self.next} is damaged (its size is no number)")
        return number

    def _long(self) -> tuple[bytes, Member]:
        """A member whose name or size needs headers of its own (pax, GNU)."""
        self.file.seek(self.next)
        try:
            member = tarfile.TarInfo.fromtarfile(_OneMember(self.file, self.next))
        except tarfile.TarError as error:
            raise ShardError(self.path, f"the header at byte {self.next} is damaged ({error})") from error
        except (ValueError, OverflowError, MemoryError) as error:
            raise ShardError(self.path, f"the header at byte {self.next} cannot be read") from error
        return member.type, Member(member.name, member.offset_data, member.size)

    def _check_sums(self, chunk: bytes, begin: int, headers: list[int]) -> None:
        if not headers:
            return
        whole = len(chunk) - len(chunk) % BLOCK
        blocks_NB = np.frombuffer(chunk, np.uint8, whole).reshape(-1, BLOCK)[np.array(headers) // BLOCK]
        sums_N = _header_sums(blocks_NB)
        for at, header, found in zip(headers, blocks_NB, sums_N.tolist(), strict=True):
            stated = _stated_sum(header.tobytes())
            # Some old programs added up signed bytes.
            if stated != found and stated != int(_header_sums(header.view(np.int8)[None])[0]):
                raise ShardError(self.path, f"the header at byte {begin + at} is damaged (bad checksum)") from None


def _header_sums(blocks_NB: Any) -> Any:
    """The sum of each header's bytes, with its checksum's own eight taken as spaces."""
    return blocks_NB.sum(axis=1, dtype=np.int64) - blocks_NB[:, 148:156].sum(axis=1, dtype=np.int64) + 8 * ord(" ")


def _stated_sum(header: bytes) -> int:
    try:
        return int(header[148:156].strip(b"\0 "), 8)
    except ValueError:
        return -1


class _OneMember(tarfile.TarFile):
    """Only here to give `TarInfo.fromtarfile` the attributes it reads."""

    def __init__(self, file: object, offset: int) -> None:
        self.fileobj = file  # type: ignore[assignment]
        self.offset = offset
        self.encoding, self.errors, self.pax_headers = "utf-8", "surrogateescape", {}
        self.tarinfo = tarfile.TarInfo
        self.ignore_zeros = False
