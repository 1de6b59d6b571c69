"""Worker processes that end with their parent, and stop soon when they are told to."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.synchronize import Event
from pathlib import Path
from threading import Thread
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_stop: Event | None = None


class Stopped(Exception):
    """The work is to end, because of an error elsewhere or an interruption."""


def worker_count(workers: int | None) -> int:
    """`workers`, or one a core. Raises `ValueError` below one."""
    if workers is not None and workers < 1:
        raise ValueError(f"workers={workers} must be at least 1.")
    return workers or os.cpu_count() or 1


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool whose tasks call `raise_if_stopped` now and then; on leaving, what has not begun is dropped.

    Raises `ValueError` when a worker process was killed.
    """
    context = multiprocessing.get_context("spawn")  # not forked: the caller may already run threads
    stop = context.Event()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(stop,))
    try:
        yield pool
    except BrokenProcessPool as error:
        raise ValueError(
            "A worker process was killed, perhaps because memory ran out. Give the same command again with a smaller "
            "--workers."
        ) from error
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def map_in_order(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int | None, *, chunk: int = 1
) -> Generator[Result]:
    """`map` in worker processes; in this one if there is only one. Close it, and the workers end.

    Args:
        chunk: items that a worker takes at a time, where there are enough of them.
    """
    count = min(worker_count(workers), max(len(items), 1))
    if count == 1:
        yield from map(function, items)
        return
    with worker_pool(count) as pool:
        yield from pool.map(function, items, chunksize=min(chunk, -(-len(items) // count)))


def map_files(
    function: Callable[[Path], Result], files: Sequence[Path], workers: int | None, *, few_bytes: int
) -> Generator[Result]:
    """`map_in_order`; files that have few bytes together are not worth the start of processes."""
    few = sum(file.stat().st_size for file in files if file.exists()) < few_bytes
    return map_in_order(function, files, 1 if few else workers)


def raise_if_stopped() -> None:
    """Raises `Stopped` in a worker whose pool is being left."""
    if _stop is not None and _stop.is_set():
        raise Stopped


def _start(stop: Event) -> None:
    global _stop
    _stop = stop
    # Ctrl-C reaches every process of a terminal; the parent then sets `stop`, and workers tidy up
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker of a killed parent would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
