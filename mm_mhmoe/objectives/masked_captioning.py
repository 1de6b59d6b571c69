"""Captions learnt as BEiT-3 fine-tunes for captioning: hidden tokens, told from the picture and the text before them.

Shapes: B batch, L text length, D model dim, M hidden positions, V vocabulary.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mm_mhmoe.batch import Images, ImageTextBatch, Texts
from mm_mhmoe.config import TextConfig
from mm_mhmoe.models.tasks import CaptionModel
from mm_mhmoe.objectives.masked import MaskedLoss

# Of the hidden tokens, as the released code of BEiT-3 (and BERT, arXiv 1810.04805) does: the rest is shown as it is.
MASKED, RANDOM = 0.8, 0.1


def hidden_captions(pairs: ImageTextBatch, text: TextConfig) -> ImageTextBatch:
    """The pairs with causal texts in which what has to be told (`masked_BL`) is mostly a mask token, sometimes another
    token, sometimes itself."""
    texts = pairs.texts
    assert pairs.images is not None and texts is not None and texts.masked_BL is not None
    told_BL = texts.masked_BL
    drawn_BL = torch.rand(told_BL.shape, device=told_BL.device)
    first_word = 1 + max(text.bos_id, text.pad_id, text.eos_id, text.unk_id, text.mask_id)
    other_BL = torch.randint(first_word, text.vocab_size, told_BL.shape, device=told_BL.device)
    ids_BL = torch.where(told_BL & (drawn_BL >= 1 - RANDOM), other_BL, texts.ids_BL)
    return ImageTextBatch(
        images=Images(pixels_BCHW=pairs.images.pixels_BCHW),
        texts=Texts(ids_BL=ids_BL, valid_BL=texts.valid_BL, masked_BL=told_BL & (drawn_BL < MASKED)),
        keys=pairs.keys,
        causal_text=True,
    )


def hidden_caption_loss(
    model: CaptionModel, text_BLD: Tensor, texts: Texts, *, smoothing: float = 0.1, drop_worst: float = 0.0
) -> MaskedLoss:
    """The loss of the hidden tokens of `texts`, the pairs' own, from the states of their `hidden_captions`."""
    assert texts.masked_BL is not None
    targets_M = texts.ids_BL[texts.masked_BL]
    states_MD = F.pad(text_BLD[texts.masked_BL], (0, 0, 0, -len(targets_M) % 64))  # as masked_cross_entropy does
    logits_MV = model.head(states_MD)[: len(targets_M)].float()
    loss = smoothed_loss(logits_MV, targets_M, smoothing=smoothing, drop_worst=drop_worst)
    return MaskedLoss(loss, len(targets_M), (logits_MV.detach().argmax(dim=1) == targets_M).sum())


def smoothed_loss(logits_MV: Tensor, targets_M: Tensor, *, smoothing: float, drop_worst: float = 0.0) -> Tensor:
    """KL divergence from targets of 1 - smoothing, and smoothing shared by all other classes: nats, mean over
    positions; 0 at best.

    Args:
        drop_worst: share of the positions that is left out because their loss is the largest (wrong captions).
    """
    others = logits_MV.shape[1] - 1
    # torch shares its smoothing among all classes, the target too.
    each_M = F.cross_entropy(logits_MV, targets_M, reduction="none", label_smoothing=smoothing * (others + 1) / others)
    if smoothing:
        each_M = each_M + (1 - smoothing) * math.log(1 - smoothing) + smoothing * math.log(smoothing / others)
    if drop_worst and len(each_M):
        each_M = each_M.topk(max(1, int(len(each_M) * (1 - drop_worst))), largest=False).values
    return each_M.mean() if len(each_M) else logits_MV.sum()
