"""One function of many files, in several processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

_A = TypeVar("_A")
_B = TypeVar("_B")


def parallel(task: Callable[[_A], _B], items: Sequence[_A], *, workers: int | None, few_bytes: int = 0) -> Iterator[_B]:
    """`task` of every item, in order, in several processes; files that have few bytes together are done in this one."""
    workers = min(workers or os.cpu_count() or 1, len(items))
    sizes = (item.stat().st_size for item in items if isinstance(item, Path) and item.exists())
    if workers < 2 or sum(sizes) < few_bytes:
        yield from map(task, items)
        return
    try:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            yield from pool.map(task, items)
    except BrokenExecutor as error:
        raise ValueError(
            "a process that read shards was killed, perhaps for want of memory; try --workers 1"
        ) from error
