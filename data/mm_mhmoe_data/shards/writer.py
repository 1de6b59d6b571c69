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
    import webdataset  # takes a second, and most who read shards write none

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
