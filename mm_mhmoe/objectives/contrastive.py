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
    if gather is None:
        to_texts_BG, first = similarities(image_BP, text_BP, scale), 0
        to_images_BG = to_texts_BG.t()
    else:
        texts_GP, first = gather(text_BP)
        to_texts_BG = similarities(image_BP, texts_GP, scale)
        to_images_BG = similarities(text_BP, gather(image_BP)[0], scale)
    own_B = torch.arange(len(image_BP), device=image_BP.device) + first
    return 0.5 * (F.cross_entropy(to_texts_BG, own_B) + F.cross_entropy(to_images_BG, own_B))


def similarities(one_BP: Tensor, other_GP: Tensor, scale: Tensor) -> Tensor:
    """Scaled dot products (B, G), whatever the autocast.

    A logit of up to 100 keeps half a unit in bf16, which is too coarse for near negatives.
    """
    with torch.autocast(one_BP.device.type, enabled=False):
        return scale * one_BP @ other_GP.t()
