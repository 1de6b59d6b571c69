"""The norms of blocks."""

from __future__ import annotations

from typing import Literal

from torch import nn

NormKind = Literal["layer", "rms"]


def make_norm(kind: NormKind, dim: int, eps: float) -> nn.Module:
    """LayerNorm, or RMSNorm (arXiv 1910.07467): no mean is taken off, and there is no bias."""
    return nn.RMSNorm(dim, eps=eps) if kind == "rms" else nn.LayerNorm(dim, eps=eps)
