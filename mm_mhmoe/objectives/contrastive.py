"""Contrastive image-text loss. Shapes: B batch, G batches of all ranks, P embedding dim."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Gather = Callable[[Tensor], tuple[Tensor, int]]
"""(B, P) to the rows of all ranks (G, P), with gradients, and the place of the own first row among them."""


class Similarities(NamedTuple):
    """Scaled cosines of the own rows with those of all ranks.

    to_texts_BG:  of every own picture with all texts.
    to_images_BG: of every own text with all pictures.
    own_B:        the columns of what belongs together.
    """

    to_texts_BG: Tensor
    to_images_BG: Tensor
    own_B: Tensor

    def loss(self) -> Tensor:
        """Mean of both directions' cross-entropy over the own rows."""
        return 0.5 * (F.cross_entropy(self.to_texts_BG, self.own_B) + F.cross_entropy(self.to_images_BG, self.own_B))


def similarities(image_BP: Tensor, text_BP: Tensor, scale: Tensor, gather: Gather | None = None) -> Similarities:
    """Of L2-normalised embeddings.

    Args:
        gather: brings the rows of all ranks. None: there is one rank.
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
    return Similarities(to_texts_BG, to_images_BG, own_B)


def info_nce(image_BP: Tensor, text_BP: Tensor, scale: Tensor, gather: Gather | None = None) -> Tensor:
    """Mean of both directions' cross-entropy over the batch (CLIP, arXiv 2103.00020). Inputs are L2-normalised.

    Args:
        gather: brings the negatives of all ranks; the mean is over the own rows, so the mean over ranks of equal
            batches is the loss of all of them as one. None: negatives are those of the batch.
    """
    return similarities(image_BP, text_BP, scale, gather).loss()
