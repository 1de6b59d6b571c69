"""Truth: batches that say by themselves which step they belong to."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import pytest
import torch
from mm_mhmoe_data.ring import Empty, fresh, step_loader
from mm_mhmoe_data.sampling import StepSampler


@dataclass(frozen=True, kw_only=True)
class Batch:
    step: int
    wide: torch.Tensor
    narrow: torch.Tensor


def make(step: int, empty: Empty) -> Batch:
    """Later batches are larger, then smaller again; some take longer than others."""
    wide = empty((2 + step % 3, 50), torch.uint8).fill_(step)
    narrow = empty((7,), torch.int64).fill_(-step)
    time.sleep(0.002 * (step % 3))
    return Batch(step=step, wide=wide, narrow=narrow)


def intact(batch: Batch) -> bool:
    return bool((batch.wide == batch.step).all() and (batch.narrow == -batch.step).all())


@pytest.mark.parametrize(("workers", "hold", "prefetch"), [(0, 4, 2), (1, 1, 1), (2, 4, 2), (2, 1, 1), (3, 5, 2)])
def test_a_batch_stays_as_it_is_while_it_is_held(workers: int, hold: int, prefetch: int) -> None:
    held: deque[Batch] = deque(maxlen=hold + 1)
    steps = []
    for batch in step_loader(make, StepSampler(0, 40), workers=workers, hold=hold, prefetch=prefetch):
        held.append(batch)
        time.sleep(0.003)  # workers run ahead as far as they may
        steps.append(batch.step)
        assert all(map(intact, held))
        assert batch.wide.shape == (2 + batch.step % 3, 50) and batch.narrow.dtype == torch.int64
    assert steps == list(range(40))


def test_memory_is_used_again() -> None:
    """One worker, one batch ahead, one held: three slots, so the fourth batch lies where the first one did."""
    batches = iter(step_loader(make, StepSampler(0, 40), workers=1, hold=1, prefetch=1))
    first = next(batches)
    assert intact(first) and next(batches).step == 1 and intact(first)
    assert [next(batches).step for _ in range(3)] == [2, 3, 4]
    assert first.narrow.tolist() == [-3] * 7


def test_a_resumed_run_begins_at_its_step() -> None:
    loader = step_loader(make, StepSampler(33, 40), workers=2)
    assert [batch.step for batch in loader] == list(range(33, 40)) and len(loader) == 40


def fails_at_five(step: int, empty: Empty) -> Batch:
    if step == 5:
        raise ValueError("sample 000000005 cannot be used")
    return make(step, empty)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_worker_comes_out(workers: int) -> None:
    seen = []
    with pytest.raises(ValueError, match="sample 000000005 cannot be used"):
        for batch in step_loader(fails_at_five, StepSampler(0, 40), workers=workers):
            seen.append(batch.step)
    assert seen == [0, 1, 2, 3, 4]


def ones(step: int, empty: Empty) -> torch.Tensor:
    return empty((3,), torch.int64).fill_(step)


def test_spawned_workers() -> None:
    loader = step_loader(ones, StepSampler(0, 9), workers=1, hold=2, start_method="spawn")
    assert [batch.tolist() for batch in loader] == [[step] * 3 for step in range(9)]


def test_without_workers_nothing_is_used_again() -> None:
    batches = list(step_loader(make, StepSampler(0, 20)))
    assert all(map(intact, batches))
    assert fresh((2, 3), torch.int64).shape == (2, 3)
