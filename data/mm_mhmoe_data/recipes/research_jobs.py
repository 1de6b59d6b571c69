"""From the records of a split to the jobs that write its shards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeVar

from ..shards import Sample
from .plan import Dropped, ShardJob


class Record(Protocol):
    """What is known of one sample before its picture is read; picklable."""

    @property
    def key(self) -> str: ...


R = TypeVar("R", bound=Record)


def record_jobs(
    split: str,
    records: Sequence[R],
    make: Callable[[R], Sample | Dropped],
    *,
    samples_per_shard: int,
    digits: int = 5,
) -> list[ShardJob]:
    """Jobs for split/00000.tar and so on, in the order of the records.

    Args:
        make: a picklable function of one record.
        digits: of a shard's number; CLIP_benchmark looks for 0.tar, 1.tar (one digit).

    Raises:
        ValueError: two records have one key.
    """
    seen: set[str] = set()
    for record in records:
        if record.key in seen:
            raise ValueError(
                f"two entries of the split {split!r} have the key {record.key!r}; remove one from the source"
            )
        seen.add(record.key)
    parts = [records[start : start + samples_per_shard] for start in range(0, len(records), samples_per_shard)]
    return [
        ShardJob(path=f"{split}/{number:0{digits}d}.tar", make=partial(_make_all, make, part))
        for number, part in enumerate(parts)
    ]


def clip_benchmark_files(jobs: Mapping[str, Sequence[ShardJob]], kind: str) -> dict[str, Callable[[], bytes]]:
    """nshards.txt of each split, and dataset_type.txt ("retrieval" or "classification")."""
    files = {f"{split}/nshards.txt": text_file(f"{len(shards)}\n") for split, shards in jobs.items()}
    return {"dataset_type.txt": text_file(f"{kind}\n"), **files}


def text_file(text: str) -> Callable[[], bytes]:
    """A file of a plan from its text."""
    return partial(str.encode, text, "utf-8")


def _make_all(make: Callable[[R], Sample | Dropped], records: Iterable[R]) -> Iterator[Sample | Dropped]:
    return map(make, records)
