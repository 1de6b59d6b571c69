"""Brightness, contrast and saturation of a picture, changed at random in one pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_GRAY = np.array([0.2989, 0.587, 0.114])  # luma of ITU-R BT.601, as torchvision has it


def jitter_colours(picture_CHW: Tensor, strength: float, draws: Sequence[float]) -> Tensor:
    """uint8 RGB (3, H, W), its brightness, contrast and saturation each multiplied by 1 +- strength.

    All three are linear in a pixel's colours, so they are one 3x3 matrix and an offset. They come in this order, and
    values are cut to 0..255 once at the end; torchvision's ColorJitter draws an order and cuts after each step.

    Args:
        draws: three numbers in [0, 1), from which the factors come.
    """
    brightness, contrast, saturation = (1 + strength * (2 * draw - 1) for draw in draws)
    values_1CHW = picture_CHW.unsqueeze(0).float()
    mean_gray = float(values_1CHW.mean(dim=(0, 2, 3)).numpy() @ _GRAY)
    matrix = contrast * brightness * (saturation * np.eye(3) + (1 - saturation) * _GRAY)
    offset = (1 - contrast) * brightness * mean_gray + 0.5  # the conversion to uint8 cuts the fraction off
    kernel = torch.from_numpy(matrix).float()[:, :, None, None]
    values_1CHW = F.conv2d(values_1CHW, kernel, torch.full((3,), offset))
    return values_1CHW[0].clamp_(0, 255).to(torch.uint8)
