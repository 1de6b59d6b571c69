"""Writing, listing and checking tar shards of samples.

A sample is a group of members `KEY.ext` that follow one another. The reader is our own because the usual one
ends silently on a shard that was cut or joined: here everything from the first header to the trailer is
checked.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path

import webdataset
from braceexpand import braceexpand

BLOCK = 512
MAX_MEMBER_BYTES = 64 * 1024 * 1024
_REMEDY = "Copy or write the shard again, or take it out of the shard list."


class ShardError(ValueError):
    """A shard cannot be trusted; the message names the shard, what is wrong and what to do."""

    def __init__(self, path: Path | str, problem: str | None = None) -> None:
        # A data worker's error is made again in the training process from its message alone.
        super().__init__(str(path) if problem is None else f"shard {path}: {problem}. {_REMEDY}")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One sample: its key and the raw bytes of every member by extension ("jpg", "txt", "json")."""

    key: str
    parts: Mapping[str, bytes] = field(default_factory=dict)


def expand_shards(spec: str | Path) -> list[Path]:
    """The shards that `spec` names: a .tar, a directory, a glob, or a brace range; several joined by "::".

    Raises `ValueError` when a part names nothing, saying what was looked for.
    """
    found: list[Path] = []
    for part in str(spec).split("::"):
        if not part:
            raise ValueError(f"shards={str(spec)!r} has an empty part. Remove the extra '::'.")
        for name in braceexpand(part, escape=False) if "{" in part else [part]:
            found.extend(_expand_one(name, part))
    return found


def _expand_one(name: str, spec: str) -> list[Path]:
    path = Path(name).expanduser()
    if path.is_dir():
        shards = sorted(path.glob("*.tar"))
        looked_for = f"*.tar in the directory {path}"
    elif any(sign in name for sign in "*?["):
        shards = sorted(Path(match) for match in glob(str(path)) if match.endswith(".tar"))
        looked_for = f"files matching {name}"
    else:
        shards = [path] if path.is_file() else []
        looked_for = f"the file {name}"
    if not shards:
        raise ValueError(
            f"shards={spec!r} names no shard: looked for {looked_for}. "
            "Give a .tar, a directory of .tar files, a glob, or a range like 'train/{00000..00003}.tar'."
        )
    return shards


def write_shards(
    samples: Iterable[Sample], out_dir: Path, first_shard: int, samples_per_shard: int
) -> list[tuple[Path, int]]:
    """Write samples to `out_dir`/NNNNN.tar, numbered from `first_shard`; returns (path, samples) per shard.

    Equal samples give equal bytes: owner, mode and time of every member are fixed. Each shard appears under
    its final name only when it is complete.
    """
    if samples_per_shard < 1:
        raise ValueError(f"samples_per_shard={samples_per_shard} must be at least 1.")
    out_dir.mkdir(parents=True, exist_ok=True)
    written: list[tuple[Path, int]] = []
    batch: list[Sample] = []
    for sample in samples:
        for extension, data in sample.parts.items():
            if not isinstance(data, bytes):
                raise ValueError(f"sample {sample.key!r}: {extension}={data!r} must be bytes. Encode it first.")
        batch.append(sample)
        if len(batch) == samples_per_shard:
            written.append(_write_one(batch, out_dir / f"{first_shard + len(written):05d}.tar"))
            batch = []
    if batch:
        written.append(_write_one(batch, out_dir / f"{first_shard + len(written):05d}.tar"))
    return written


def _write_one(samples: list[Sample], path: Path) -> tuple[Path, int]:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            writer = webdataset.TarWriter(file, user="user", group="group", mode=0o644, mtime=0, encoder=False)
            for sample in samples:
                writer.write({"__key__": sample.key, **sample.parts})
            writer.close()
        os.replace(temporary, path)
    except BaseException:  # also on Ctrl-C nothing may stay behind
        temporary.unlink(missing_ok=True)
        raise
    return path, len(samples)


def check_shard(path: Path) -> int:
    """Walk all headers and the trailer; returns the number of samples. Raises `ShardError`."""
    return sum(1 for _ in iter_samples(path))


def iter_samples(path: Path, *, max_member_bytes: int = MAX_MEMBER_BYTES) -> Iterator[Sample]:
    """The samples of one shard in order. Raises `ShardError` as soon as something is wrong with the file.

    Checked: every header's checksum, that data and trailer (1024 zero bytes) are complete, that nothing but
    zeros follows, that members are plain files of bounded size, that no key comes back and no member twice.
    """
    key = ""
    parts: dict[str, bytes] = {}
    seen: set[str] = set()
    for name, data in _members(Path(path), max_member_bytes):
        this_key, extension = split_name(name)
        if not extension or not this_key:
            raise ShardError(path, f"member {name!r} has no key or no extension")
        if this_key != key:
            if parts:
                yield Sample(key=key, parts=parts)
            if this_key in seen:
                raise ShardError(path, f"the members of {this_key!r} are not next to each other")
            seen.add(this_key)
            key, parts = this_key, {}
        if extension in parts:
            raise ShardError(path, f"member {name!r} occurs twice")
        parts[extension] = data
    if parts:
        yield Sample(key=key, parts=parts)


def split_name(name: str) -> tuple[str, str]:
    """("dir/photo", "v2.jpg") for "dir/photo.v2.jpg": the key ends at the first dot of the base name."""
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return (folder + slash + stem if stem else ""), extension.lower()


def _members(path: Path, max_member_bytes: int) -> Iterator[tuple[str, bytes]]:
    size = path.stat().st_size
    if size == 0 or size % BLOCK:
        raise ShardError(path, f"its size of {size} bytes is not a whole number of {BLOCK}-byte blocks: it was cut")
    with path.open("rb") as file:
        while True:
            offset = file.tell()
            header = file.read(BLOCK)
            if len(header) < BLOCK:
                raise ShardError(path, "it ends without the 1024 zero bytes that close a tar file: it was cut")
            if not any(header):
                _check_trailer(path, file.read(), offset)
                return
            file.seek(offset)
            member = _next_member(path, file, offset)
            if not member.isfile():
                raise ShardError(path, f"member {member.name!r} is not a plain file")
            if member.size > max_member_bytes:
                raise ShardError(path, f"member {member.name!r} has {member.size} bytes, more than {max_member_bytes}")
            padded = -(-member.size // BLOCK) * BLOCK
            if member.offset_data + padded > size:
                raise ShardError(path, f"the data of member {member.name!r} is cut short")
            file.seek(member.offset_data)
            yield member.name, file.read(member.size)
            file.seek(member.offset_data + padded)


class _OneMember(tarfile.TarFile):
    """Only here to give `TarInfo.fromtarfile` the attributes it reads."""

    def __init__(self, file: object, offset: int) -> None:
        self.fileobj = file  # type: ignore[assignment]
        self.offset = offset
        self.encoding, self.errors, self.pax_headers = "utf-8", "surrogateescape", {}
        self.tarinfo = tarfile.TarInfo
        self.ignore_zeros = False


def _next_member(path: Path, file: object, offset: int) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.fromtarfile(_OneMember(file, offset))
    except tarfile.TarError as error:
        raise ShardError(path, f"the header at byte {offset} is damaged ({error})") from error
    except (ValueError, OverflowError) as error:
        raise ShardError(path, f"the header at byte {offset} cannot be read") from error


def _check_trailer(path: Path, rest: bytes, offset: int) -> None:
    if len(rest) < BLOCK:
        raise ShardError(path, "its closing 1024 zero bytes are incomplete: it was cut")
    if rest.strip(b"\0"):
        raise ShardError(path, f"data follows its end at byte {offset}: two tar files may have been joined")
