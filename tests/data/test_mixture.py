"""Truth: counting."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mm_mhmoe_data.mixture import BLOCK, MixedOrder, token_weights
from mm_mhmoe_data.sampling import ShuffledOrder


def mixed(sizes: list[int], weights: list[float], seed: int = 0) -> MixedOrder:
    orders = [ShuffledOrder([size], seed=i, first=sum(sizes[:i])) for i, size in enumerate(sizes)]
    return MixedOrder(orders, weights, seed=seed)


@settings(deadline=None, max_examples=10)
@given(weights=st.lists(st.floats(0.1, 100), min_size=1, max_size=5), start=st.integers(0, 10**9))
def test_shares_are_those_of_the_weights_over_any_stretch(weights: list[float], start: int) -> None:
    order = mixed([7] * len(weights), weights)
    found = Counter(order(p).sample // 7 for p in range(start, start + 2 * BLOCK))
    for source, weight in enumerate(weights):
        # Two partial blocks may each be off by their whole count in the worst case; on a whole one it is exact.
        assert abs(found[source] / (2 * BLOCK) - weight / sum(weights)) < 0.02
    aligned = Counter(order(p).sample // 7 for p in range(3 * BLOCK, 4 * BLOCK))
    assert all(abs(aligned[s] - BLOCK * w / sum(weights)) < 1 for s, w in enumerate(weights))


def test_each_source_goes_through_its_epochs_in_its_own_order() -> None:
    sizes = [50, 5]
    order = mixed(sizes, [3.0, 1.0])
    picks = [order(p) for p in range(2 * BLOCK)]
    for source, size in enumerate(sizes):
        alone = ShuffledOrder([size], seed=source, first=sum(sizes[:source]))
        own = [pick for pick in picks if (pick.sample >= sizes[0]) == bool(source)]
        assert own == [alone(p) for p in range(len(own))]


def test_a_position_is_the_same_however_it_was_reached() -> None:
    forwards, backwards = mixed([9, 4], [1.0, 2.0]), mixed([9, 4], [1.0, 2.0])
    positions = [0, 1, BLOCK - 1, BLOCK, 5 * BLOCK + 3, 12]
    assert [forwards(p) for p in positions] == [backwards(p) for p in reversed(positions)][::-1]


def test_one_source_is_its_own_order() -> None:
    alone = ShuffledOrder([30], seed=0)
    assert [mixed([30], [2.0])(p) for p in range(100)] == [alone(p) for p in range(100)]


def test_weights_by_tokens_give_shares_of_tokens() -> None:
    tokens = [10.0, 40.0]
    order = mixed([100, 100], token_weights([1.0, 1.0], tokens))
    found = Counter(order(p).sample // 100 for p in range(BLOCK))
    assert found[0] * tokens[0] == pytest.approx(found[1] * tokens[1], rel=1e-3)


@pytest.mark.parametrize("weights", [[], [1.0], [1.0, 0.0], [1.0, -1.0], [1.0, float("nan")], [1.0, 1e-9]])
def test_weights_that_make_no_sense_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        mixed([5, 5], weights)
