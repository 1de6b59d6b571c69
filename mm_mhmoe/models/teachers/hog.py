"""Histograms of oriented gradients as what the visual tokenizer predicts.

Shapes: B batch, C channels, N patches, P values of a target, O orientations.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

ORIENTATIONS = 9
CELLS = 2
"""Cells along one side of a patch: 8 px cells in patches of 16 px, as MaskFeat has them (arXiv 2112.09133)."""


class HOGTeacher(nn.Module):
    """In each cell of a patch and channel, how much of the gradient has which direction; then a constant.

    Gradients are central differences, zero at the picture's edge; directions that differ by half a turn are one; votes
    are not shared between neighbouring bins; each histogram has length one or, without any gradient, zero (HOG, Dalal
    and Triggs 2005; the conventions are those of skimage.feature.hog with blocks of one cell).

    VQ-KD compares directions (cosine), and a flat patch has no histogram: the constant is the direction it has instead.
    """

    def __init__(self, patch_size: int, *, channels: int = 3) -> None:
        super().__init__()
        if patch_size % CELLS:
            raise ValueError(
                f"teacher=hog cuts each patch into {CELLS}x{CELLS} cells; vision.patch_size={patch_size} is odd"
            )
        self.patch_size = patch_size
        self.dim = channels * CELLS**2 * ORIENTATIONS + 1

    @torch.no_grad()
    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, N, P), channels first, then cells row-major, then orientations."""
        pixels = pixels_BCHW.float() / 255.0 if pixels_BCHW.dtype == torch.uint8 else (pixels_BCHW.float() + 1.0) / 2.0
        histogram_BCHWO = cell_histograms(pixels, self.patch_size // CELLS)
        target_BNP = rearrange(histogram_BCHWO, "b c (h i) (w j) o -> b (h w) (c i j o)", i=CELLS, j=CELLS)
        return F.pad(target_BNP, (0, 1), value=1.0)


def cell_histograms(pixels_BCHW: Tensor, cell: int) -> Tensor:
    """Histograms of length one for each cell of `cell` px: (B, C, H, W) -> (B, C, H / cell, W / cell, O)."""
    down, right = torch.zeros_like(pixels_BCHW), torch.zeros_like(pixels_BCHW)
    down[..., 1:-1, :] = pixels_BCHW[..., 2:, :] - pixels_BCHW[..., :-2, :]
    right[..., :, 1:-1] = pixels_BCHW[..., :, 2:] - pixels_BCHW[..., :, :-2]
    half_turns = torch.atan2(down, right).remainder(math.pi) / math.pi
    # remainder of a tiny negative angle rounds up to pi itself, which is direction 0 again
    bins = (half_turns * ORIENTATIONS).long() % ORIENTATIONS
    votes_BCHWO = F.one_hot(bins, ORIENTATIONS) * torch.hypot(down, right).unsqueeze(-1)
    cells = rearrange(votes_BCHWO, "b c (h p) (w q) o -> b c h w (p q) o", p=cell, q=cell).mean(dim=-2)
    return cells / (cells.square().sum(dim=-1, keepdim=True) + 1e-10).sqrt()
