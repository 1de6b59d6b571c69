"""Image-text matching with hard negatives, as VLMo (arXiv 2111.02358). Shapes: B pairs, D model dim."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mm_mhmoe.batch import Images, ImageTextBatch, Texts
from mm_mhmoe.objectives.masked import MaskedLoss


def hard_negatives(logits_BB: Tensor) -> Tensor:
    """For every row another column, drawn with the probability that the softmax over the others gives it: (B,).

    Args:
        logits_BB: scaled similarities; what belongs together is on the diagonal.

    Raises:
        ValueError: there is one pair only.
    """
    if len(logits_BB) < 2:
        raise ValueError(
            "image-text matching needs other pairs for its negatives: set batch_pairs, or batch_size, to 2 or more"
        )
    own_BB = torch.eye(len(logits_BB), dtype=torch.bool, device=logits_BB.device)
    return logits_BB.float().masked_fill(own_BB, -torch.inf).softmax(dim=1).multinomial(1).squeeze(1)


def matching_pairs(pairs: ImageTextBatch, logits_BB: Tensor) -> ImageTextBatch:
    """Three rows for a pair, nothing hidden: first all pairs, then their texts with hard pictures, then their pictures
    with hard texts. Negatives are those of the batch; a text that says the same can be among them.

    Args:
        logits_BB: scaled similarity of every picture (row) to every text.
    """
    assert pairs.images is not None and pairs.texts is not None
    own_B = torch.arange(len(pairs), device=logits_BB.device)
    image_3B = torch.cat([own_B, hard_negatives(logits_BB.t()), own_B])
    text_3B = torch.cat([own_B, own_B, hard_negatives(logits_BB)])
    return ImageTextBatch(
        images=Images(pixels_BCHW=pairs.images.pixels_BCHW[image_3B]),
        texts=Texts(ids_BL=pairs.texts.ids_BL[text_3B], valid_BL=pairs.texts.valid_BL[text_3B]),
    )


def matching_loss(cls_3BD: Tensor, head: nn.Module) -> MaskedLoss:
    """Cross-entropy over the rows of `matching_pairs`, of which the first third belongs together."""
    logits = head(cls_3BD).float()
    matches = (torch.arange(len(logits), device=logits.device) < len(logits) // 3).long()
    return MaskedLoss(F.cross_entropy(logits, matches), len(logits), (logits.argmax(dim=1) == matches).sum())
