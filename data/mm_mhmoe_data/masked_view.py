"""What masks hide of a sample, to look at: gray patches, and the pieces of a caption that are hidden."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mm_mhmoe_data.masking import ImageMaskKind, image_mask, sample_rng, text_mask, whole_word_mask
from mm_mhmoe_data.samples import begins_word
from mm_mhmoe_data.tokenizer import MASK, Tokenizer

_MAX_TOKENS = 64
_GRAY, _LEFT_OVER = 205, 0.12  # of the hidden picture a shadow stays, so that one sees what it was

Word = list[tuple[str, bool]]
"""Pieces of one word, and whether each is hidden."""


@dataclass(frozen=True, kw_only=True)
class MaskOptions:
    """Masks as a run of this seed draws them for held-out pairs.

    image: share of the patches.
    text: share of the pieces, or of the words.
    grid: patches along one side.
    tokenizer: cuts captions into pieces; None: pieces are words.
    whole_word: hide all pieces of a word or none.
    kind: how patches are chosen.
    unit: patches along one side of a cube.
    """

    image: float
    text: float
    grid: int
    seed: int
    tokenizer: Tokenizer | None = None
    whole_word: bool = False
    kind: ImageMaskKind = "block"
    unit: int = 2

    def __post_init__(self) -> None:
        for name in ("image", "text"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}_mask={getattr(self, name)} must lie in [0, 1]")
        if self.grid < 1:
            raise ValueError(f"grid={self.grid} must be 1 or more patches")
        if self.unit < 1:
            raise ValueError(f"mask_unit={self.unit} must be 1 or more patches")


def masked_patches(picture_CHW: Tensor, key: str, options: MaskOptions) -> Tensor:
    """A square uint8 picture whose side is a multiple of the grid, its hidden patches gray."""
    rng = sample_rng(options.seed, 0, key, "pairs/picture")
    mask_N = image_mask(options.grid, options.image, rng, kind=options.kind, unit=options.unit)
    cell = picture_CHW.shape[-1] // options.grid
    hidden_HW = mask_N.view(options.grid, options.grid).repeat_interleave(cell, 0).repeat_interleave(cell, 1)
    gray_CHW = picture_CHW.float() * _LEFT_OVER + _GRAY * (1 - _LEFT_OVER)
    return torch.where(hidden_HW, gray_CHW.to(torch.uint8), picture_CHW)


def masked_words(caption: str, key: str, options: MaskOptions) -> list[Word]:
    """The caption as the tokenizer sees it, word by word."""
    rng = sample_rng(options.seed, 0, key, "pairs/text")
    if options.tokenizer is None:
        words = caption.split()
        hidden = text_mask(np.full(len(words), True), options.text, rng) if options.text else [False] * len(words)
        return [[(word, bool(hides))] for word, hides in zip(words, hidden, strict=True)]
    ids_L = np.asarray(options.tokenizer.encode(caption, _MAX_TOKENS))
    begins_L = begins_word(options.tokenizer)[ids_L]
    if not options.text:
        hidden_L = np.zeros(len(ids_L), dtype=bool)
    elif options.whole_word:
        hidden_L = whole_word_mask(ids_L > MASK, begins_L, options.text, rng).numpy()
    else:
        hidden_L = text_mask(ids_L > MASK, options.text, rng).numpy()
    found: list[Word] = []
    for index, begins, hides in zip(ids_L[1:-1].tolist(), begins_L[1:-1], hidden_L[1:-1], strict=True):
        if begins or not found:
            found.append([])
        found[-1].append((options.tokenizer.piece(index).removeprefix("▁"), bool(hides)))
    return found
