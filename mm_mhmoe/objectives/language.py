"""Texts from left to right. Shapes: B batch, L text length, D model dim."""

from __future__ import annotations

from torch import Tensor, nn

from mm_mhmoe.batch import Texts
from mm_mhmoe.objectives.masked import MaskedLoss, masked_cross_entropy


def next_token_loss(states_BLD: Tensor, texts: Texts, head: nn.Module, *, bos_id: int) -> MaskedLoss:
    """Mean cross-entropy of every token from the position before it.

    Where a new document begins inside a row, its begin token is not predicted: nothing before it could tell.

    Args:
        head: from states to logits over the vocabulary.
    """
    targets_BL = texts.ids_BL[:, 1:]
    wanted_BL = texts.valid_BL[:, 1:] & (targets_BL != bos_id)
    return masked_cross_entropy(states_BLD[:, :-1], wanted_BL, targets_BL, head)
