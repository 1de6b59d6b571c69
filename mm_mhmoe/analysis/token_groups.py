"""Which tokens a statistic is about: pictures, texts, and the kinds of tokens in them.

Shapes: B batch, N patches, L text length, T tokens of all streams, G groups (which may overlap).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.config import TextConfig
from mm_mhmoe.models.encoder import EncoderOutput

MODALITIES = ("image", "text")
KINDS = ("cls", "patch", "begin", "word", "end")
"""[CLS] of a picture, its patches, a text's begin token, its words and its end token."""


def modality_groups(output: EncoderOutput) -> Tensor:
    """Membership in MODALITIES: bool (T, 2). Padding is in none."""
    return torch.stack([~output.is_text_T, output.is_text_T], dim=1) & output.valid_T.unsqueeze(1)


def token_kinds(streams: Sequence[ImageTextBatch], num_patches: int, text: TextConfig) -> Tensor:
    """The index in KINDS of every flat token of these streams: int64 (T,), -1 at padding.

    Args:
        streams: as they were given to the encoder.
        num_patches: of a picture.
    """
    parts = []
    for stream in streams:
        rows = []
        if stream.images is not None:
            image_BN = torch.full((len(stream), 1 + num_patches), KINDS.index("patch"))
            image_BN[:, 0] = KINDS.index("cls")
            rows.append(image_BN.to(stream.images.pixels_BCHW.device))
        if stream.texts is not None:
            ids_BL = stream.texts.ids_BL
            text_BL = torch.full_like(ids_BL, KINDS.index("word"))
            text_BL[ids_BL == text.bos_id] = KINDS.index("begin")
            text_BL[ids_BL == text.eos_id] = KINDS.index("end")
            rows.append(text_BL.masked_fill(~stream.texts.valid_BL, -1))
        parts.append(torch.cat(rows, dim=1).flatten())
    return torch.cat(parts)


def kind_groups(kind_T: Tensor) -> Tensor:
    """Membership in KINDS: bool (T, 5)."""
    return kind_T.unsqueeze(1) == torch.arange(len(KINDS), device=kind_T.device)
