"""Truth: loops over pairs of values; Pearson's formula on the ranks."""

import math

import pytest
import torch

from mm_mhmoe.analysis.rank_correlation import partial_spearman, ranks, spearman


def slow_ranks(values: list[float]) -> list[float]:
    return [sum(w < v for w in values) + (sum(w == v for w in values) - 1) / 2 for v in values]


def slow_spearman(x: list[float], y: list[float]) -> float:
    a, b = slow_ranks(x), slow_ranks(y)
    mean = (len(x) - 1) / 2
    top = sum((p - mean) * (q - mean) for p, q in zip(a, b, strict=True))
    return top / math.sqrt(sum((p - mean) ** 2 for p in a) * sum((q - mean) ** 2 for q in b))


@pytest.fixture
def rows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Four rows of 30 values with many ties; y follows x a little."""
    generator = torch.Generator().manual_seed(0)
    x, noise, z = (torch.randint(0, 8, (4, 30), generator=generator).double() for _ in range(3))
    return x, x + 2 * noise, x + z


def test_ranks_against_a_loop(rows) -> None:
    for found, row in zip(ranks(rows[0]), rows[0], strict=True):
        assert found.tolist() == slow_ranks(row.tolist())


def test_spearman_against_a_loop(rows) -> None:
    x, y, _ = rows
    expected = [slow_spearman(*pair) for pair in zip(x.tolist(), y.tolist(), strict=True)]
    assert spearman(x, y).tolist() == pytest.approx(expected)
    assert spearman(x[0], y[0]).item() == pytest.approx(expected[0])


def test_only_the_order_counts() -> None:
    x = torch.tensor([0.1, 3.0, 2.0, 10.0])
    assert spearman(x, x.exp()).item() == pytest.approx(1.0)
    assert spearman(x, -(x**3)).item() == pytest.approx(-1.0)
    assert spearman(x, torch.ones(4)).isnan()


def test_partial_is_the_correlation_of_what_is_left(rows) -> None:
    x, y, z = rows
    for row in range(4):
        a, b, c = (ranks(v[row]) - ranks(v[row]).mean() for v in (x, y, z))
        left_a, left_b = (v - (v @ c) / (c @ c) * c for v in (a, b))
        expected = (left_a @ left_b / (left_a.norm() * left_b.norm())).item()
        assert partial_spearman(x, y, z)[row].item() == pytest.approx(expected)
