"""Truth: a set that one can learn, also from mixed pictures."""

from __future__ import annotations

import pytest
import torch

from mm_mhmoe.batch import Images, ImageTextBatch, LabelledBatch
from mm_mhmoe.models.tasks import ClassificationModel
from mm_mhmoe.objectives.mixing import MixConfig
from mm_mhmoe.training.modules import ClassificationModule
from mm_mhmoe.training.optim import OptimConfig

GRAYS = torch.tensor([0, 120, 255], dtype=torch.uint8)


def grays(rows: int, seed: int) -> LabelledBatch:
    labels_B = torch.randint(0, 3, (rows,), generator=torch.Generator().manual_seed(seed))
    pixels = GRAYS[labels_B].view(-1, 1, 1, 1).repeat(1, 3, 16, 16)
    return LabelledBatch(images=ImageTextBatch(images=Images(pixels_BCHW=pixels)), labels_B=labels_B)


@pytest.mark.parametrize("mixing", [MixConfig(mixup=0, cutmix=0, erase=0, smoothing=0), MixConfig(mixup=0, cutmix=1)])
def test_it_learns_shades_of_gray(config, mixing: MixConfig) -> None:
    torch.manual_seed(0)
    model = ClassificationModel(config(drop_path=0.0), ["black", "gray", "white"])
    module = ClassificationModule(model, OptimConfig(), mixing, steps=1)
    module.log = lambda *_, **__: None  # there is no trainer
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(60):
        optimizer.zero_grad()
        module.training_step(grays(16, step), step)["loss"].backward()
        optimizer.step()
    held_out = grays(32, 1000)
    found_B = model.eval().class_logits(held_out.images.images).argmax(dim=1)
    assert (found_B == held_out.labels_B).float().mean() > 0.95
