"""Contrastive image-text loss. Shapes: B batch, P embedding dim."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(image_BP: Tensor, text_BP: Tensor, scale: Tensor) -> Tensor:
    """Mean of both directions' cross-entropy over the batch (CLIP, arXiv 2103.00020). Inputs are L2-normalised."""
    # A logit of up to 100 keeps half a unit in bf16, which is too coarse for near negatives.
    with torch.autocast(image_BP.device.type, enabled=False):
        logits_BB = scale * image_BP @ text_BP.t()
    own_B = torch.arange(len(logits_BB), device=logits_BB.device)
    return 0.5 * (F.cross_entropy(logits_BB, own_B) + F.cross_entropy(logits_BB.t(), own_B))
