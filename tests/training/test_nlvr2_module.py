"""Truth: a set that one can learn, and cannot without both pictures."""

from __future__ import annotations

import torch

from mm_mhmoe.batch import Images, ImageTextBatch, NLVR2Batch, Texts
from mm_mhmoe.models.tasks import NLVR2Model
from mm_mhmoe.training.modules import NLVR2Module
from mm_mhmoe.training.optim import OptimConfig


def same_or_not(rows: int, seed: int) -> NLVR2Batch:
    """Black or white pictures; the sentence is always the same and true where both are of one colour."""
    generator = torch.Generator().manual_seed(seed)
    white_2B = torch.randint(0, 2, (2, rows), generator=generator)
    texts = Texts(ids_BL=torch.tensor([[0, 7, 2]]).repeat(rows, 1), valid_BL=torch.ones(rows, 3, dtype=torch.bool))
    left, right = (
        ImageTextBatch(images=Images(pixels_BCHW=(255 * w).to(torch.uint8).view(-1, 1, 1, 1).repeat(1, 3, 16, 16)),
                       texts=texts)
        for w in white_2B
    )  # fmt: skip
    return NLVR2Batch(left=left, right=right, labels_B=(white_2B[0] == white_2B[1]).long())


def test_it_learns_whether_two_pictures_agree(config) -> None:
    torch.manual_seed(0)
    model = NLVR2Model(config(drop_path=0.0))
    module = NLVR2Module(model, OptimConfig(), steps=1)
    module.log = lambda *_, **__: None  # there is no trainer
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(60):
        optimizer.zero_grad()
        module.training_step(same_or_not(16, step), step)["loss"].backward()
        optimizer.step()
    held_out = same_or_not(64, 1000)
    judged_B = model.eval().judge(held_out.left, held_out.right).argmax(dim=1)
    assert (judged_B == held_out.labels_B).float().mean() > 0.95
