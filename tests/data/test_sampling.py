from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mm_mhmoe_data.sampling import StepOrder, StepSampler, epoch_order


@given(n=st.integers(1, 200), seed=st.integers(0, 10**6), epoch=st.integers(0, 1000))
def test_an_epoch_holds_every_sample_once(n: int, seed: int, epoch: int) -> None:
    order = epoch_order(n, seed, epoch).tolist()
    assert sorted(order) == list(range(n))
    assert order == epoch_order(n, seed, epoch).tolist()


def test_epochs_and_seeds_differ() -> None:
    orders = {tuple(epoch_order(50, seed, epoch).tolist()) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


@given(n=st.integers(1, 60), per_rank=st.integers(1, 9), world=st.integers(1, 4), start=st.integers(0, 20))
def test_ranks_together_take_the_epochs_one_after_another(n: int, per_rank: int, world: int, start: int) -> None:
    size, steps = per_rank * world, range(start, start + 5)
    ranks = [StepOrder(n, size, seed=7, rank=rank, world_size=world) for rank in range(world)]
    parts = [[order(step) for step in steps] for order in ranks]
    assert all(len(batch) == per_rank for part in parts for batch in part)
    got = [parts[i % world][s][i // world] for s in range(len(steps)) for i in range(size)]
    positions = range(start * size, (start + 5) * size)
    assert got == [(p // n, int(epoch_order(n, 7, p // n)[p % n])) for p in positions]


def test_a_step_is_the_same_in_whatever_order_steps_are_asked() -> None:
    forwards = StepOrder(11, 4, seed=0)
    backwards = StepOrder(11, 4, seed=0)
    assert [forwards(s) for s in range(9)] == [backwards(s) for s in reversed(range(9))][::-1]


def test_a_batch_larger_than_the_set_wraps() -> None:
    assert [epoch for epoch, _ in StepOrder(3, 8, seed=0)(0)] == [0, 0, 0, 1, 1, 1, 2, 2]


def test_step_sampler_starts_late_but_counts_the_whole_run() -> None:
    sampler = StepSampler(4, 7)
    assert list(sampler) == [4, 5, 6]
    assert len(sampler) == 7


@pytest.mark.parametrize(
    ("n", "size", "world", "said"),
    [(0, 4, 1, "no samples"), (5, 0, 1, "batch_size=0"), (5, 3, 2, "batch_size=3")],
)
def test_impossible_orders_are_refused(n: int, size: int, world: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        StepOrder(n, size, seed=0, world_size=world)
