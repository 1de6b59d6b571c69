"""The features of a frozen network as what the visual tokenizer predicts.

Shapes: B batch, C channels, N patches of the student, P teacher's width, h w teacher's grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NetworkTeacher(nn.Module):
    """Pictures at the network's own size, its last features, and those averaged to the student's grid of patches.

    The network is frozen and stays in evaluation mode whatever `train` says. Where its grid is another one than the
    student's, features are interpolated (bilinear, with antialiasing when there are fewer student patches).

    Args:
        network: what is run.
        features: how it is run: (network, normalised pictures (B, C, H, W)) -> (B, P, h, w).
        image_size: side of the pictures that it takes.
        mean: of each channel with black 0 and white 1, subtracted before the network.
        std: of each channel, in the same scale.
        grid: the student's patches along one side.
    """

    mean_C11: Tensor
    std_C11: Tensor

    def __init__(
        self,
        network: nn.Module,
        features: Callable[[nn.Module, Tensor], Tensor],
        *,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        grid: int,
    ) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.features = features
        self.image_size = image_size
        self.grid = grid
        self.register_buffer("mean_C11", torch.tensor(tuple(mean)).view(-1, 1, 1))
        self.register_buffer("std_C11", torch.tensor(tuple(std)).view(-1, 1, 1))
        probe = self._features(torch.zeros(1, len(self.mean_C11), 1, 1))
        self.dim = probe.shape[1]
        self.own_grid = tuple(probe.shape[2:])

    def train(self, mode: bool = True) -> NetworkTeacher:
        return super().train(False)

    @torch.no_grad()
    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """uint8, or floats in [-1, 1]: (B, C, H, W) -> (B, N, P), in fp32."""
        scaled = pixels_BCHW.float() / 255.0 if pixels_BCHW.dtype == torch.uint8 else (pixels_BCHW.float() + 1.0) / 2.0
        features_BPhw = self._features(scaled).float()
        if features_BPhw.shape[2:] != (self.grid, self.grid):
            features_BPhw = F.interpolate(
                features_BPhw, (self.grid, self.grid), mode="bilinear", align_corners=False, antialias=True
            )
        return features_BPhw.flatten(2).transpose(1, 2)

    @torch.no_grad()
    def _features(self, scaled_BCHW: Tensor) -> Tensor:
        size = (self.image_size, self.image_size)
        if scaled_BCHW.shape[2:] != size:
            scaled_BCHW = F.interpolate(scaled_BCHW, size, mode="bicubic", align_corners=False, antialias=True)
        return self.features(self.network, (scaled_BCHW.clamp(0.0, 1.0) - self.mean_C11) / self.std_C11)
