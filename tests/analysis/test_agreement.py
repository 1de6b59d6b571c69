"""Truth: loops, and scikit-learn's published example of what renaming must not change."""

import math
from collections import Counter

import pytest
import torch

from mm_mhmoe.analysis.agreement import (
    best_head_information,
    chance_of_equal,
    equal_share,
    normalised_mutual_information,
    shuffled,
)


def draw(*shape: int, high: int, seed: int) -> torch.Tensor:
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(seed))


def slow_information(a: list[int], b: list[int]) -> float:
    joint, own_a, own_b = Counter(zip(a, b, strict=True)), Counter(a), Counter(b)
    n = len(a)
    shared = sum(c / n * math.log(c * n / (own_a[x] * own_b[y])) for (x, y), c in joint.items())
    entropies = [-sum(c / n * math.log(c / n) for c in own.values()) for own in (own_a, own_b)]
    return shared / math.sqrt(entropies[0] * entropies[1])


def test_shares_against_loops() -> None:
    a, b = draw(50, 3, high=4, seed=0), draw(50, 3, high=4, seed=1)
    equal = sum(a[t, h] == b[t, h] for t in range(50) for h in range(3)) / 150
    assert equal_share(a, b) == pytest.approx(float(equal))
    pairs = [a[t, h] == b[u, h] for t in range(50) for u in range(50) for h in range(3)]
    assert chance_of_equal(a, b) == pytest.approx(sum(map(float, pairs)) / len(pairs))
    assert equal_share(a, a) == 1.0
    with pytest.raises(ValueError, match="cannot be compared"):
        equal_share(a, b[:40])


@pytest.mark.parametrize("seed", range(3))
def test_information_against_a_loop(seed: int) -> None:
    a = draw(200, high=5, seed=seed)
    b = torch.where(draw(200, high=2, seed=seed + 10) > 0, a % 3, draw(200, high=3, seed=seed + 20))
    expected = slow_information(a.tolist(), b.tolist())
    assert 0.05 < expected < 0.95
    assert normalised_mutual_information(a, b) == pytest.approx(expected)
    assert normalised_mutual_information(b, a) == pytest.approx(expected)


def test_names_of_experts_do_not_matter() -> None:
    a, order = draw(300, high=8, seed=0), torch.randperm(8, generator=torch.Generator().manual_seed(1))
    assert normalised_mutual_information(a, order[a]) == pytest.approx(1.0)
    b = draw(300, high=8, seed=2)
    assert normalised_mutual_information(a, order[b]) == pytest.approx(normalised_mutual_information(a, b))
    assert normalised_mutual_information(a, torch.zeros_like(a)) == 0.0
    with pytest.raises(ValueError, match="300 and 299"):
        normalised_mutual_information(a, b[:299])


def test_numbers_of_heads_do_not_matter() -> None:
    a = draw(400, 3, high=6, seed=0)
    assert best_head_information(a, a[:, [2, 0, 1]]) == pytest.approx(1.0)
    best = [[slow_information(a[:, i].tolist(), b.tolist()) for b in (a[:, 0] // 2, a[:, 1] // 3)] for i in range(3)]
    expected = (sum(map(max, best)) / 3 + sum(max(row[j] for row in best) for j in range(2)) / 2) / 2
    found = best_head_information(a, torch.stack([a[:, 0] // 2, a[:, 1] // 3], dim=1))
    assert found == pytest.approx(expected)


def test_shuffled_tokens_keep_their_rows_and_lose_their_meaning() -> None:
    a = draw(2000, 2, high=4, seed=0)
    mixed = shuffled(a, seed=3)
    assert sorted(map(tuple, mixed.tolist())) == sorted(map(tuple, a.tolist()))
    assert torch.equal(mixed, shuffled(a, seed=3)) and not torch.equal(mixed, a)
    assert best_head_information(a, mixed) < 0.02
