"""Captions of pairs, written from left to right (image captioning as pretraining).

Shapes: B batch, L text length, D model dim.
"""

from __future__ import annotations

from torch import Tensor, nn

from mm_mhmoe.batch import Images, ImageTextBatch, Texts
from mm_mhmoe.objectives.masked import MaskedLoss, masked_cross_entropy


def caption_stream(pairs: ImageTextBatch) -> ImageTextBatch:
    """The pairs with nothing hidden, in which text tokens see the picture and the texts before them.

    Routers that compare the tokens of a batch (expert choice, a capacity) can still tell a token of later ones.
    """
    assert pairs.images is not None and pairs.texts is not None
    return ImageTextBatch(
        images=Images(pixels_BCHW=pairs.images.pixels_BCHW),
        texts=Texts(ids_BL=pairs.texts.ids_BL, valid_BL=pairs.texts.valid_BL),
        keys=pairs.keys,
        causal_text=True,
    )


def caption_loss(text_BLD: Tensor, texts: Texts, head: nn.Module) -> MaskedLoss:
    """Mean cross-entropy of every text token but the first, the end token included, from the position before it.

    Args:
        text_BLD: the encoder's states of a `caption_stream`.
        head: from states to logits over the vocabulary.
    """
    return masked_cross_entropy(text_BLD[:, :-1], texts.valid_BL[:, 1:], texts.ids_BL[:, 1:], head)
