"""Image-text matching with hard negatives, as VLMo (arXiv 2111.02358).

Shapes: B pairs of this rank, G pairs of all ranks, D model dim.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mm_mhmoe.batch import Images, ImageTextBatch, Texts
from mm_mhmoe.objectives.contrastive import Similarities
from mm_mhmoe.objectives.gather import largest, take_rows
from mm_mhmoe.objectives.masked import MaskedLoss


def hard_negatives(logits_BG: Tensor, own_B: Tensor) -> Tensor:
    """For every row another column, drawn with the probability that the softmax over the others gives it: (B,).

    Args:
        logits_BG: scaled similarities.
        own_B: the column of each row that belongs to it.

    Raises:
        ValueError: there is one pair only.
    """
    if logits_BG.shape[1] < 2:
        raise ValueError(
            "image-text matching needs other pairs for its negatives: set batch_pairs, or batch_size, to 2 or more"
        )
    # A NaN must come out as a loss that is NaN, so that the step is skipped; here it would end the process.
    finite_BG = logits_BG.detach().float().nan_to_num()
    others_BG = finite_BG.scatter(1, own_B.unsqueeze(1), -torch.inf)
    return others_BG.softmax(dim=1).multinomial(1).squeeze(1)


def matching_pairs(pairs: ImageTextBatch, similar: Similarities) -> ImageTextBatch:
    """Three rows for a pair, nothing hidden: first all pairs, then their texts with hard pictures, then their pictures
    with hard texts. Negatives are those of all ranks, as in VLMo's code; a text that says the same can be among them.

    VLMo gathers all pictures on all ranks; here each rank gets only those that it has drawn.
    """
    assert pairs.images is not None and pairs.texts is not None
    pixels_BCHW, ids_BL, valid_BL = pairs.images.pixels_BCHW, pairs.texts.ids_BL, pairs.texts.valid_BL
    hard_images_B = hard_negatives(similar.to_images_BG, similar.own_B)
    hard_texts_B = hard_negatives(similar.to_texts_BG, similar.own_B)
    # Texts of another rank may be padded to another length.
    filling = (0, largest(ids_BL.shape[1], ids_BL.device) - ids_BL.shape[1])
    ids_BL, valid_BL = F.pad(ids_BL, filling), F.pad(valid_BL, filling)
    return ImageTextBatch(
        images=Images(pixels_BCHW=torch.cat([pixels_BCHW, take_rows(pixels_BCHW, hard_images_B), pixels_BCHW])),
        texts=Texts(
            ids_BL=torch.cat([ids_BL, ids_BL, take_rows(ids_BL, hard_texts_B)]),
            valid_BL=torch.cat([valid_BL, valid_BL, take_rows(valid_BL, hard_texts_B)]),
        ),
    )


def matching_loss(cls_3BD: Tensor, head: nn.Module) -> MaskedLoss:
    """Cross-entropy over the rows of `matching_pairs`, of which the first third belongs together."""
    logits = head(cls_3BD).float()
    matches = (torch.arange(len(logits), device=logits.device) < len(logits) // 3).long()
    return MaskedLoss(F.cross_entropy(logits, matches), len(logits), (logits.argmax(dim=1) == matches).sum())
