"""Texts to batches. Legend: B batch, L text length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mm_mhmoe.batch import Texts


def collate_texts(
    texts: Sequence[Sequence[int]], pad_id: int, max_length: int, masks: Sequence[Tensor] | None = None
) -> Texts:
    """Texts padded to the longest of them, rounded up to a multiple of 8, and their token masks.

    Few different lengths are fast ones: kernels are compiled or chosen for a shape.
    """
    longest = max(map(len, texts))
    shape = (len(texts), min(max_length, longest + -longest % 8))
    ids_BL = np.full(shape, pad_id, dtype=np.int64)
    valid_BL = np.zeros(shape, dtype=bool)
    masked_BL = None if masks is None else np.zeros(shape, dtype=bool)
    for row, ids in enumerate(texts):
        ids_BL[row, : len(ids)] = ids
        valid_BL[row, : len(ids)] = True
        if masks is not None and masked_BL is not None:
            masked_BL[row, : len(ids)] = masks[row]
    return Texts(
        ids_BL=torch.from_numpy(ids_BL),
        valid_BL=torch.from_numpy(valid_BL),
        masked_BL=None if masked_BL is None else torch.from_numpy(masked_BL),
    )
