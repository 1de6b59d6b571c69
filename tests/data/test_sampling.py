"""Truth: counting, and the order written out with lists."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mm_mhmoe_data.sampling import ShuffledOrder, StepOrder, StepSampler, permutation

COUNTS = st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(any)


@given(counts=COUNTS, seed=st.integers(0, 10**6), epoch=st.integers(0, 1000), window=st.integers(1, 200))
def test_an_epoch_holds_every_sample_once(counts: list[int], seed: int, epoch: int, window: int) -> None:
    n = sum(counts)
    order = ShuffledOrder(counts, seed=seed, first=3, window=window)
    picks = [order(position) for position in range(epoch * n, (epoch + 1) * n)]
    assert sorted(picks) == [(epoch, 3 + i) for i in range(n)]


@given(counts=COUNTS, window=st.integers(1, 30), seed=st.integers(0, 100), epoch=st.integers(0, 5))
def test_the_order_is_that_of_lists(counts: list[int], window: int, seed: int, epoch: int) -> None:
    samples, n = iter(range(sum(counts))), sum(counts)
    shards = [[next(samples) for _ in range(count)] for count in counts]
    order = ShuffledOrder(counts, seed=seed, window=window)
    if n <= window:
        expected = permutation(n, seed, epoch).tolist()
    else:
        row = [i for shard in permutation(len(shards), seed, epoch).tolist() for i in shards[shard]]
        parts = [row[first : first + window] for first in range(0, n, window)]
        expected = [part[i] for w, part in enumerate(parts) for i in permutation(len(part), seed, epoch, 1 + w)]
    assert [order(epoch * n + p).sample for p in range(n)] == expected


def test_a_window_touches_few_shards_and_a_shard_few_windows() -> None:
    order = ShuffledOrder([100] * 50, seed=0, window=500)
    shards = [{order(p).sample // 100 for p in range(first, first + 500)} for first in range(0, 5000, 500)]
    assert all(len(found) == 5 for found in shards) and sum(map(len, shards)) == 50


def test_epochs_and_seeds_differ() -> None:
    for window in (20, 100):
        orders = set()
        for seed in range(5):
            order = ShuffledOrder([20, 30], seed=seed, window=window)
            orders |= {tuple(order(epoch * 50 + p).sample for p in range(50)) for epoch in range(5)}
        assert len(orders) == 25


@given(counts=COUNTS, per_rank=st.integers(1, 9), world=st.integers(1, 4), start=st.integers(0, 20))
def test_ranks_together_take_the_epochs_one_after_another(
    counts: list[int], per_rank: int, world: int, start: int
) -> None:
    size, steps, order = per_rank * world, range(start, start + 5), ShuffledOrder(counts, seed=7, window=16)
    ranks = [StepOrder(order, size, rank=rank, world_size=world) for rank in range(world)]
    parts = [[rank(step) for step in steps] for rank in ranks]
    assert all(len(batch) == per_rank for part in parts for batch in part)
    got = [parts[i % world][s][i // world] for s in range(len(steps)) for i in range(size)]
    assert got == [order(p) for p in range(start * size, (start + 5) * size)]


def test_a_step_is_the_same_in_whatever_order_steps_are_asked() -> None:
    forwards = StepOrder(ShuffledOrder([5, 6], seed=0, window=4), 4)
    backwards = StepOrder(ShuffledOrder([5, 6], seed=0, window=4), 4)
    assert [forwards(s) for s in range(9)] == [backwards(s) for s in reversed(range(9))][::-1]


def test_a_batch_larger_than_the_set_wraps() -> None:
    assert [pick.epoch for pick in StepOrder(ShuffledOrder([3], seed=0), 8)(0)] == [0, 0, 0, 1, 1, 1, 2, 2]


def test_far_positions_are_found_at_once() -> None:
    """A hundred million samples; making their order would take 800 MB."""
    order = ShuffledOrder([10_000] * 10_000, seed=0)
    picks = {order(10**8 * 3 + 12_345_678 + p) for p in range(1000)}
    assert len(picks) == 1000 and all(pick.epoch == 3 and 0 <= pick.sample < 10**8 for pick in picks)


def test_step_sampler_starts_late_but_counts_the_whole_run() -> None:
    sampler = StepSampler(4, 7)
    assert list(sampler) == [4, 5, 6]
    assert len(sampler) == 7


@pytest.mark.parametrize(("size", "world", "said"), [(0, 1, "batch_size=0"), (3, 2, "batch_size=3")])
def test_impossible_steps_are_refused(size: int, world: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        StepOrder(ShuffledOrder([5], seed=0), size, world_size=world)


@pytest.mark.parametrize(("counts", "window", "said"), [([0, 0], 5, "no samples"), ([5], 0, "window=0")])
def test_impossible_orders_are_refused(counts: list[int], window: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ShuffledOrder(counts, seed=0, window=window)
