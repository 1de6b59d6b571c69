"""Truth: stochastic depth as arXiv 1603.09382 defines it, here for whole rows."""

import torch

from mm_mhmoe.models.block import DropPath
from mm_mhmoe.nn import Segment

SEGMENTS = [Segment(3, 4, None), Segment(2, 5, None)]


def test_evaluation_and_rate_zero_change_nothing() -> None:
    y_TD = torch.randn(22, 3)
    assert torch.equal(DropPath(0.9).eval()(y_TD, SEGMENTS), y_TD)
    assert torch.equal(DropPath(0.0).train()(y_TD, SEGMENTS), y_TD)


def test_whole_rows_are_dropped_or_scaled() -> None:
    torch.manual_seed(0)
    drop = DropPath(0.25).train()
    seen = set()
    for _ in range(50):
        rows = [row for part in drop(torch.ones(22, 3), SEGMENTS).split([12, 10]) for row in part.flatten().tolist()]
        first, second = rows[:36], rows[36:]  # 3 rows of 4 tokens, 2 rows of 5 tokens, 3 values a token
        for row in [first[n : n + 12] for n in (0, 12, 24)] + [second[n : n + 15] for n in (0, 15)]:
            assert len(set(row)) == 1
            seen.add(round(row[0], 6))
    assert seen == {0.0, round(1 / 0.75, 6)}


def test_expectation_is_kept() -> None:
    torch.manual_seed(0)
    y_TD = DropPath(0.4).train()(torch.ones(20_000, 1), [Segment(20_000, 1, None)])
    assert abs(y_TD.mean().item() - 1.0) < 0.02  # standard error: sqrt(0.4 / 0.6 / 20,000) = 0.006
