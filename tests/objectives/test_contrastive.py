"""Truth: CLIP's pseudocode (arXiv 2103.00020, figure 3) in numpy."""

import numpy as np
import torch
import torch.nn.functional as F

from mm_mhmoe.objectives.contrastive import info_nce


def test_against_numpy() -> None:
    torch.manual_seed(0)
    image, text = (F.normalize(torch.randn(7, 5, dtype=torch.float64), dim=-1) for _ in range(2))
    logits = 3.5 * image.numpy() @ text.numpy().T
    expected = 0.0
    for table in (logits, logits.T):
        for row in range(7):
            expected += -np.log(np.exp(table[row, row]) / np.exp(table[row]).sum()) / 14
    np.testing.assert_allclose(info_nce(image, text, torch.tensor(3.5, dtype=torch.float64)).item(), expected)


def test_autocast_keeps_fp32() -> None:
    torch.manual_seed(0)
    image, text = (F.normalize(torch.randn(7, 5), dim=-1) for _ in range(2))
    exact = info_nce(image, text, torch.tensor(90.0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(info_nce(image, text, torch.tensor(90.0)), exact)


def test_it_is_not_symmetric_in_the_pairing() -> None:
    """Right pairs cost less than the same pairs shifted by one."""
    image = torch.eye(4)
    scale = torch.tensor(10.0)
    assert info_nce(image, image, scale) < 0.01 < info_nce(image, image.roll(1, 0), scale)
