"""Truth: every possible routing, enumerated."""

from itertools import combinations, product

import pytest
import torch

from mm_mhmoe.analysis.diversity import independent_diversity, uniform_diversity


@pytest.mark.parametrize(("experts", "heads", "k"), [(3, 2, 1), (4, 3, 1), (4, 3, 2), (5, 1, 3), (3, 2, 3)])
def test_uniform_against_all_routings(experts: int, heads: int, k: int) -> None:
    routings = list(product(combinations(range(experts), k), repeat=heads))
    mean = sum(len(set().union(*routing)) for routing in routings) / len(routings)
    assert uniform_diversity(experts, heads, per_pick=k) == pytest.approx(mean)


def test_independent_against_all_routings() -> None:
    first_HE = torch.tensor([[6, 3, 1], [0, 5, 5]])
    mean = 0.0
    for a, b in product(range(3), repeat=2):
        mean += first_HE[0, a].item() / 10 * first_HE[1, b].item() / 10 * len({a, b})
    assert independent_diversity(first_HE) == pytest.approx(mean)


def test_heads_with_one_favourite_each() -> None:
    assert independent_diversity(torch.eye(4) * 7) == pytest.approx(4.0)
    assert independent_diversity(torch.full((4, 8), 5)) == pytest.approx(uniform_diversity(8, 4))


def test_an_impossible_choice_is_refused() -> None:
    with pytest.raises(ValueError, match="per_pick=5"):
        uniform_diversity(4, 2, per_pick=5)
