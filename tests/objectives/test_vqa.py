"""Truth: torch's summed binary cross-entropy, divided by the number of questions."""

import pytest
import torch
import torch.nn.functional as F

from mm_mhmoe.objectives.vqa import soft_target_bce


@pytest.mark.parametrize("answers", [1, 9])
def test_against_the_sum(answers: int) -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(5, answers), torch.rand(5, answers)
    expected = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / 5
    torch.testing.assert_close(soft_target_bce(logits, targets), expected)


def test_half_precision_is_computed_in_fp32() -> None:
    loss = soft_target_bce(torch.randn(5, 9).bfloat16(), torch.rand(5, 9))
    assert loss.dtype == torch.float32
