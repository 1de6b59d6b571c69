"""Contrastive image-text loss. Shapes: B batch, G batches of all ranks, P embedding dim."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Gather = Callable[[Tensor], tuple[Tensor, int]]
"""(B, P) to the rows of all ranks (G, P), with gradients, and the place of the own first row among them."""


def info_nce(image_BP: Tensor, text_BP: Tensor, scale: Tensor, gather: Gather | None = None) -> Tensor:
    """Mean of both directions' cross-entropy over the batch (CLIP, arXiv 2103.00020). Inputs are L2-normalised.

    Args:
        gather: brings the negatives of all ranks; the mean is over the own rows, so the mean over ranks of equal
            batches is the loss of all of them as one. None: negatives are those of the batch.
    """
    # A logit of up to 100 keeps half a unit in bf16, which is too coarse for near negatives.
    with torch.autocast(image_BP.device.type, enabled=False):
        if gather is None:
            to_texts_BG, first = scale * image_BP @ text_BP.t(), 0
            to_images_BG = to_texts_BG.t()
        else:
            texts_GP, first = gather(text_BP)
            to_texts_BG = scale * image_BP @ texts_GP.t()
            to_images_BG = scale * text_BP @ gather(image_BP)[0].t()
    own_B = torch.arange(len(image_BP), device=image_BP.device) + first
    return 0.5 * (F.cross_entropy(to_texts_BG, own_B) + F.cross_entropy(to_images_BG, own_B))
