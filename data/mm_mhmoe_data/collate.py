"""Samples to batches. Legend: B batch, L text length, N patches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mm_mhmoe.batch import Images, Texts


def collate_images(pictures: Sequence[Tensor], masks: Sequence[Tensor] | None = None) -> Images:
    """Pictures (C, H, W) of one size, and their patch masks (N,)."""
    return Images(
        pixels_BCHW=torch.stack(list(pictures)), masked_BN=None if masks is None else torch.stack(list(masks))
    )


def collate_texts(
    texts: Sequence[Sequence[int]], pad_id: int, max_length: int, masks: Sequence[Tensor] | None = None
) -> Texts:
    """Texts padded to the longest of them, rounded up to a multiple of 8, and their token masks.

    Few different lengths are fast ones: kernels are compiled or chosen for a shape.
    """
    longest = max(map(len, texts))
    shape = (len(texts), min(max_length, longest + -longest % 8))
    ids_BL = torch.full(shape, pad_id, dtype=torch.int64)
    valid_BL = torch.zeros(shape, dtype=torch.bool)
    masked_BL = None if masks is None else torch.zeros(shape, dtype=torch.bool)
    for row, ids in enumerate(texts):
        ids_BL[row, : len(ids)] = torch.tensor(ids)
        valid_BL[row, : len(ids)] = True
        if masks is not None and masked_BL is not None:
            masked_BL[row, : len(ids)] = masks[row]
    return Texts(ids_BL=ids_BL, valid_BL=valid_BL, masked_BL=masked_BL)
