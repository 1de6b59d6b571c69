"""Visual question answering as classification. Shapes: B batch, A answers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def soft_target_bce(logits_BA: Tensor, targets_BA: Tensor) -> Tensor:
    """Binary cross-entropy to soft targets, summed over answers and averaged over questions (BEiT-3's VQA loss)."""
    return F.binary_cross_entropy_with_logits(logits_BA.float(), targets_BA.float()) * targets_BA.shape[1]
