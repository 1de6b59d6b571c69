"""Rotary positions. Legend: T tokens, B batch, L length, H heads, d head dim, C = 3 H d columns."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RotaryPositions(nn.Module):
    """Turns queries and keys by angles that grow with their place, so that scores depend on distances only.

    Value i of the first half of a head and value i of its second half are turned together, as in LLaMA's code; the
    paper (arXiv 2104.09864) pairs neighbours, which is the same up to the order of a head's values.

    Args:
        head_dim: d, even.
        base: pair i turns by base^(-2 i / d) a place.
    """

    turn_d: Tensor

    def __init__(self, head_dim: int, *, base: float = 10_000.0) -> None:
        super().__init__()
        if head_dim % 2:
            raise ValueError(f"head_dim={head_dim} is odd, and rotary positions turn pairs of values; use an even one")
        half = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
        self.register_buffer("turn_d", (base**-half).float(), persistent=False)  # d / 2 of them

    def forward(self, qkv_TC: Tensor, place_BL: Tensor) -> Tensor:
        """Fused queries, keys and values (T, 3 H d) -> the same with queries and keys turned.

        Args:
            place_BL: of every token in its row, (B, L), or (1, L) for all rows alike.
        """
        with torch.autocast(qkv_TC.device.type, enabled=False):
            angle_BLd = place_BL.unsqueeze(-1).float() * self.turn_d
            cos_BL11d, sin_BL11d = (
                wave(angle_BLd)[:, :, None, None].to(qkv_TC.dtype) for wave in (torch.cos, torch.sin)
            )
            rows = len(qkv_TC) // place_BL.shape[1]
            split = qkv_TC.view(rows, place_BL.shape[1], 3, -1, 2, len(self.turn_d))
            turned, value = split[:, :, :2], split[:, :, 2:]
            first, second = turned.unbind(-2)
            halves = (first * cos_BL11d - second * sin_BL11d, second * cos_BL11d + first * sin_BL11d)
            return torch.cat([torch.stack(halves, dim=-2), value], dim=2).view_as(qkv_TC)
