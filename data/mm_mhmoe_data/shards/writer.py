"""Samples, and writing them to tar shards."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One sample: its key and the raw bytes of every member by extension ("jpg", "txt", "json")."""

    key: str
    parts: Mapping[str, bytes] = field(default_factory=dict)


def write_shards(
    samples: Iterable[Sample], out_dir: Path, first_shard: int, samples_per_shard: int
) -> list[tuple[Path, int]]:
    """Write samples to `out_dir`/NNNNN.tar, numbered from `first_shard`; returns (path, samples) per shard.

    Equal samples give equal bytes: owner, mode and time of every member are fixed. Each shard appears under
    its final name only when it is complete.
    """
    if samples_per_shard < 1:
        raise ValueError(f"samples_per_shard={samples_per_shard} must be at least 1.")
    written: list[tuple[Path, int]] = []
    batch: list[Sample] = []
    for sample in samples:
        batch.append(sample)
        if len(batch) == samples_per_shard:
            written.append(_numbered(batch, out_dir, first_shard + len(written)))
            batch = []
    if batch:
        written.append(_numbered(batch, out_dir, first_shard + len(written)))
    return written


def _numbered(samples: list[Sample], out_dir: Path, number: int) -> tuple[Path, int]:
    path = out_dir / f"{number:05d}.tar"
    return path, write_shard(samples, path)


def _check_bytes(sample: Sample) -> None:
    for extension, data in sample.parts.items():
        if not isinstance(data, bytes):
            raise ValueError(f"sample {sample.key!r}: {extension}={data!r} must be bytes. Encode it first.")


def write_shard(samples: Iterable[Sample], path: Path) -> int:
    """Write samples to one shard as they come; returns how many. The same guarantees as `write_shards`."""
    import webdataset  # takes a second, and most who read shards write none

    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            writer = webdataset.TarWriter(file, user="user", group="group", mode=0o644, mtime=0, encoder=False)
            try:
                for sample in samples:
                    _check_bytes(sample)
                    writer.write({"__key__": sample.key, **sample.parts})
                    count += 1
            finally:
                writer.close()  # or it complains later that the file is closed
            file.flush()
            os.fsync(file.fileno())  # a power cut must not leave an empty file under the final name
        os.replace(temporary, path)
    except BaseException:  # also on Ctrl-C nothing may stay behind
        temporary.unlink(missing_ok=True)
        raise
    return count
