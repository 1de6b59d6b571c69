"""Truth: the formulas in plain Python, and the two ends of each scale."""

import math

import pytest
import torch

from mm_mhmoe.analysis.load import active_share, load_entropy, max_over_mean


@pytest.mark.parametrize("seed", range(3))
def test_against_plain_python(seed: int) -> None:
    counts = torch.randint(0, 50, (7,), generator=torch.Generator().manual_seed(seed))
    shares = [count / sum(counts.tolist()) for count in counts.tolist()]
    entropy = -sum(share * math.log(share) for share in shares if share) / math.log(7)
    assert load_entropy(counts) == pytest.approx(entropy)
    assert max_over_mean(counts) == pytest.approx(max(shares) * 7)
    for threshold in (0.0, 0.3, 1.0, 2.0):
        assert active_share(counts, threshold) == pytest.approx(sum(s * 7 > threshold for s in shares) / 7)


def test_even_load_and_one_expert_alone() -> None:
    even, alone = torch.full((4,), 3), torch.tensor([0, 9, 0, 0])
    assert load_entropy(even) == pytest.approx(1.0) and load_entropy(alone) == 0.0
    assert max_over_mean(even) == 1.0 and max_over_mean(alone) == 4.0
    assert active_share(even, 0.99) == 1.0 and active_share(even, 1.0) == 0.0 and active_share(alone, 0.0) == 0.25
    assert load_entropy(torch.tensor([5])) == 1.0


def test_no_choices_is_no_number() -> None:
    for value in (load_entropy(torch.zeros(4)), max_over_mean(torch.zeros(4)), active_share(torch.zeros(4), 0.5)):
        assert math.isnan(value)
