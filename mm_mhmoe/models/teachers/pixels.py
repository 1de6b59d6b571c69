"""The pixels of a patch as what the visual tokenizer predicts.

Shapes: B batch, N patches, P patch values (and one constant).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mm_mhmoe.nn import patchify


class PixelTeacher(nn.Module):
    """Normalised patch pixels: values scaled to [-1, 1], then a constant.

    VQ-KD compares directions (cosine), and a direction forgets brightness: without the constant, a grey and a white
    patch would be the same target. With it, the target is a point of the patch, not only a ray.
    """

    def __init__(self, patch_size: int, *, channels: int = 3) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.dim = channels * patch_size**2 + 1
        # A quarter of the length of a white patch: large enough to tell brightness, too small to drown the rest.
        self.constant = 0.25 * (self.dim - 1) ** 0.5

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        pixels = pixels_BCHW.float() / 127.5 - 1.0 if pixels_BCHW.dtype == torch.uint8 else pixels_BCHW
        patches_BNP = patchify(pixels, self.patch_size)
        return F.pad(patches_BNP, (0, 1), value=self.constant)

    def pixels(self, target_BNP: Tensor) -> Tensor:
        """Patch pixels in [-1, 1] from a predicted target of any length: (B, N, P) -> (B, N, P - 1)."""
        values, constant = target_BNP[..., :-1], target_BNP[..., -1:]
        return (values * (self.constant / constant.clamp(min=1e-3))).clamp(-1.0, 1.0)
