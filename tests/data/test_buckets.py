"""Truth: every way to deal out a few texts; the step order without buckets."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mm_mhmoe_data.buckets import BucketedOrder, by_length
from mm_mhmoe_data.sampling import ShuffledOrder, StepOrder


def padding(lengths: list[int], groups: list[list[int]]) -> int:
    return sum(max(lengths[place] for place in group) * len(group) for group in groups) - sum(lengths)


@settings(max_examples=100, deadline=None)
@given(parts=st.integers(1, 4), ranks=st.integers(1, 3), each=st.integers(1, 4), data=st.data())
def test_every_text_is_dealt_out_once_and_evenly(parts: int, ranks: int, each: int, data: st.DataObject) -> None:
    count = parts * ranks * each
    lengths = data.draw(st.lists(st.integers(1, 30), min_size=count, max_size=count))
    dealt = by_length(lengths, parts, ranks)
    assert [[len(places) for places in part] for part in dealt] == [[each] * ranks] * parts
    assert sorted(place for part in dealt for places in part for place in places) == list(range(count))


def test_no_other_way_pads_less() -> None:
    for seed in range(20):
        lengths = np.random.default_rng(seed).integers(1, 20, size=6).tolist()
        ours = padding(lengths, [part[0] for part in by_length(lengths, 3, 1)])
        least = min(padding(lengths, [list(p[:2]), list(p[2:4]), list(p[4:])]) for p in permutations(range(6)))
        assert ours == least


def test_ranks_of_a_part_have_like_lengths() -> None:
    """Dealt in turns, the longest of two ranks are neighbours in the sorted list."""
    lengths = list(range(32))
    for part in by_length(lengths, 4, 2):
        assert abs(max(part[0]) - max(part[1])) == 1


def test_what_cannot_be_dealt_evenly_is_refused() -> None:
    with pytest.raises(ValueError, match="7 texts"):
        by_length([1] * 7, 2, 2)


def test_an_optimisers_step_has_the_samples_of_the_plain_order() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, size=37).tolist()
    plain = StepOrder(ShuffledOrder([37], seed=5), 12)
    for ranks in (1, 2, 3):
        orders = [
            BucketedOrder(
                StepOrder(ShuffledOrder([37], seed=5), 12), lengths, accumulate=4, rank=rank, world_size=ranks
            )
            for rank in range(ranks)
        ]
        for step in range(5):
            batches = range(4 * step, 4 * step + 4)
            ours = Counter(pick for batch in batches for order in orders for pick in order(batch))
            assert ours == Counter(pick for batch in batches for pick in plain(batch))


def test_a_batch_depends_on_its_number_only() -> None:
    def order() -> BucketedOrder:
        return BucketedOrder(StepOrder(ShuffledOrder([37], seed=5), 12), list(range(37)), accumulate=4)

    first = order()
    assert [first(batch) for batch in range(12)] == [order()(batch) for batch in range(12)]


def test_the_order_of_one_rank_is_refused() -> None:
    with pytest.raises(ValueError, match="2 processes"):
        BucketedOrder(StepOrder(ShuffledOrder([8], seed=0), 4, rank=1, world_size=2), [1] * 8, accumulate=2)
