"""What a recipe plans: which shards, from what, and what is known about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import Any, TypeVar

from ..shards import Sample

Record = TypeVar("Record")


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """Something in the source that gives no sample: `reason` is one of a few phrases that are counted, `what`
    names it in the source."""

    reason: str
    what: str


@dataclass(frozen=True, kw_only=True)
class ShardJob:
    """One shard: its `path` below the output ("train/00003.tar"), and what is in it.

    `make` runs in another process, so it must be picklable: a `functools.partial` of a module's function. It
    gives the same samples in the same order whenever it is called. It raises `ValueError` that names the source
    file when the source is not what the recipe expects, and yields a `Dropped` for what cannot be used.
    """

    path: str
    make: Callable[[], Iterable[Sample | Dropped]]

    @property
    def split(self) -> str:
        return PurePosixPath(self.path).parts[0]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A whole data set.

    `arguments` (JSON) and `facts["source"]` are the identity of a build: only the same ones go on where a build
    was stopped. They name no folder of this machine. `files` are further files by their path below the output.
    `facts` go into the manifest and the card. `dropped` is what planning already left out. `expected` are counts
    that the source is known to have: by split, or by a name in `facts["counts"]`.
    """

    recipe: str
    arguments: Mapping[str, Any]
    jobs: Sequence[ShardJob]
    files: Mapping[str, Callable[[], bytes]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    dropped: Sequence[Dropped] = ()
    expected: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for job in self.jobs:
            path = PurePosixPath(job.path)
            assert len(path.parts) == 2 and path.suffix == ".tar" and ".." not in path.parts, job.path
            assert job.path not in seen, f"two jobs write {job.path}"
            seen.add(job.path)
        for name in self.files:
            assert not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts, name


def shard_jobs(
    splits: Mapping[str, Sequence[Record]],
    make: Callable[[int, Sequence[Record]], Iterable[Sample | Dropped]],
    samples_per_shard: int,
) -> list[ShardJob]:
    """Jobs of `samples_per_shard` records each; `make` gets the shard's number and its records.

    Numbers run on over the splits, so that `sample_key(number, index)` is unique in the whole data set.
    Raises `ValueError` when a shard would hold more than a key can count.
    """
    if not 1 <= samples_per_shard <= 10_000:
        raise ValueError(f"samples_per_shard={samples_per_shard} must lie between 1 and 10000.")
    jobs: list[ShardJob] = []
    for split, records in splits.items():
        for start in range(0, len(records), samples_per_shard):
            number = len(jobs)
            part = records[start : start + samples_per_shard]
            jobs.append(ShardJob(path=f"{split}/{number:05d}.tar", make=partial(make, number, part)))
    return jobs


def check_limit(limit: int | None) -> None:
    """Raises `ValueError` for a limit that leaves nothing."""
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit} must be at least 1; leave it out to take everything.")


def sample_key(shard: int, index: int) -> str:
    """img2dataset's key: five digits of the shard, four of the place in it."""
    return f"{shard:05d}{index:04d}"
