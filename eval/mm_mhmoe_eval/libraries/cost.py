"""What a model of another library costs, counted while it runs."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mm_mhmoe.batch import Images, Texts
from mm_mhmoe_eval.protocol import Classifies, EmbedsPairs


def pair_flops(model: nn.Module) -> float | None:
    """FLOPs of the products and convolutions, forward: of one picture, and of one text where the model takes texts.

    None for a model that does neither embed pairs nor tell classes.
    """
    if not isinstance(model, (EmbedsPairs, Classifies)):
        return None
    size = model.vision.image_size
    images = Images(pixels_BCHW=torch.zeros(1, 3, size, size, dtype=torch.uint8))
    ids = torch.zeros(1, model.text.max_length, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        if isinstance(model, EmbedsPairs):
            model.embed_images(images)
            model.embed_texts(Texts(ids_BL=ids, valid_BL=torch.ones_like(ids, dtype=torch.bool)))
        else:
            model.class_logits(images)
    return float(counter.get_total_flops())
