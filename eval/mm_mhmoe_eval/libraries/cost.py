"""What a model of another library costs, counted while it runs."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mm_mhmoe.batch import Images, Texts
from mm_mhmoe_eval.protocol import EmbedsPairs


def pair_flops(model: nn.Module) -> float | None:
    """FLOPs of the products and convolutions of one picture and one text, forward; None for another kind of model."""
    if not isinstance(model, EmbedsPairs):
        return None
    size, length = model.vision.image_size, model.text.max_length
    pixels = torch.zeros(1, 3, size, size, dtype=torch.uint8)
    ids = torch.zeros(1, length, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.embed_images(Images(pixels_BCHW=pixels))
        model.embed_texts(Texts(ids_BL=ids, valid_BL=torch.ones_like(ids, dtype=torch.bool)))
    return float(counter.get_total_flops())
