"""Truth: the shares that were asked for, and that a name alone decides."""

from __future__ import annotations

from collections import Counter

import pytest
from mm_mhmoe_data.recipes.hashed_split import Splitting, in_hashed_order

NAMES = [f"document {i}" for i in range(4000)]


def test_shares_are_met() -> None:
    counts = Counter(Splitting(seed=0, val=0.1, test=0.2).of(name) for name in NAMES)
    # four standard deviations of a binomial count: 4 sqrt(4000 p (1 - p)) is 76 and 101
    assert abs(counts["val"] - 400) < 76 and abs(counts["test"] - 800) < 101


def test_another_seed_is_another_split_and_larger_shares_keep_what_is_held_out() -> None:
    small, large = Splitting(seed=0, val=0.0, test=0.1), Splitting(seed=0, val=0.0, test=0.2)
    assert all(large.of(name) == "test" for name in NAMES if small.of(name) == "test")
    other = Splitting(seed=1, val=0.0, test=0.1)
    assert {name for name in NAMES if small.of(name) == "test"} != {name for name in NAMES if other.of(name) == "test"}


def test_without_shares_all_is_train() -> None:
    assert {Splitting(seed=0, val=0.0, test=0.0).of(name) for name in NAMES} == {"train"}


@pytest.mark.parametrize(
    ("val", "test", "told"), [(-0.1, 0.0, "val=-0.1"), (0.0, 1.0, "test=1.0"), (0.5, 0.5, "leave nothing")]
)
def test_impossible_shares_are_refused(val: float, test: float, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Splitting(seed=0, val=val, test=test)


def test_the_order_of_two_names_does_not_depend_on_the_others() -> None:
    all_of_them = [NAMES[i] for i in in_hashed_order(NAMES, 0)]
    some = NAMES[::3]
    assert [some[i] for i in in_hashed_order(some, 0)] == [name for name in all_of_them if name in set(some)]
    assert all_of_them != NAMES
