"""LayerScale (arXiv 2103.17239). Legend: T tokens, D model dim."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LayerScale(nn.Module):
    """A learned factor for every channel of a branch.

    Args:
        start: all factors at first, a small number.
    """

    def __init__(self, dim: int, start: float) -> None:
        super().__init__()
        self.scale_D = nn.Parameter(torch.full((dim,), start))

    def forward(self, y_TD: Tensor) -> Tensor:
        return y_TD * self.scale_D
