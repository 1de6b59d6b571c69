"""Truth: the built-in map, and what a process that ends itself leaves."""

from __future__ import annotations

import os
import time
from contextlib import closing
from multiprocessing import active_children

import pytest
from mm_mhmoe_data.parallel import map_in_order, worker_count, worker_pool


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order(workers: int) -> None:
    words = [str(number) for number in range(100)]
    assert list(map_in_order(int, words, workers)) == list(range(100))
    assert list(map_in_order(int, [], workers)) == []


def test_a_killed_worker_is_told_of() -> None:
    with pytest.raises(ValueError, match="A worker process was killed"), worker_pool(1) as pool:
        pool.submit(os._exit, 3).result()


def test_an_error_where_results_are_used_ends_the_workers() -> None:
    with pytest.raises(KeyboardInterrupt), closing(map_in_order(time.sleep, [0.01] * 2_000, 2, chunk=32)) as made:
        next(made)
        raise KeyboardInterrupt
    assert active_children() == []


def test_no_workers_are_refused() -> None:
    assert worker_count(None) == os.cpu_count() and worker_count(3) == 3
    with pytest.raises(ValueError, match="workers=0"):
        worker_count(0)
