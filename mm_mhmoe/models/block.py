"""One pre-LN block on a flat list of tokens.

Shapes: T tokens of all streams, D model dim.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mm_mhmoe.nn import (
    FeedForward,
    KeyValues,
    LayerScale,
    Multiway,
    MultiwayMoE,
    NormKind,
    RelativePositions,
    Routing,
    Segment,
    SelfAttention,
    by_modality,
    each_modality,
    make_norm,
)


class DropPath(nn.Module):
    """Stochastic depth (arXiv 1603.09382): drops the branch of whole rows of a stream, and scales the others up."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, y_TD: Tensor, segments: Sequence[Segment]) -> Tensor:
        if self.rate == 0.0 or not self.training:
            return y_TD
        rows = sum(segment.batch for segment in segments)
        lengths = torch.tensor([s.length for s in segments for _ in range(s.batch)], device=y_TD.device)
        kept = torch.rand(rows, device=y_TD.device) >= self.rate
        keep_T = (kept.to(y_TD.dtype) / (1.0 - self.rate)).repeat_interleave(lengths, output_size=len(y_TD))
        return y_TD * keep_T.unsqueeze(1)


class Block(nn.Module):
    """x + attention(norm(x)), then x + ffn(norm(x)). Attention stays inside a row; the FFN sees all tokens.

    Args:
        ffn: a FeedForward, or a sparse layer `(x_TD, valid_T) -> (y_TD, Routing)`; or a Multiway, or MultiwayMoE, of
            two of them.
        multiway: whether pictures and texts have LayerNorms, and factors of layer_scale, of their own.
        layer_scale: start of learned factors on both branches (LayerScale); None: there are none.
        relative_positions: the attention's addends that are this block's alone.
        norm: of both branches: LayerNorm or RMSNorm.
    """

    def __init__(
        self,
        attention: SelfAttention,
        ffn: nn.Module,
        *,
        dim: int,
        drop_path: float,
        norm_eps: float,
        multiway: bool = False,
        layer_scale: float | None = None,
        relative_positions: RelativePositions | None = None,
        norm: NormKind = "layer",
    ) -> None:
        super().__init__()

        def scale() -> nn.Module:
            return nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale)

        self.attention_norm = each_modality(lambda: make_norm(norm, dim, norm_eps), multiway)
        self.relative_positions = relative_positions
        self.attention = attention
        self.attention_scale = each_modality(scale, multiway and layer_scale is not None)
        self.ffn_norm = each_modality(lambda: make_norm(norm, dim, norm_eps), multiway)
        self.ffn = ffn
        self.ffn_scale = each_modality(scale, multiway and layer_scale is not None)
        self.drop_path = DropPath(drop_path)

    def forward(
        self,
        x_TD: Tensor,
        segments: Sequence[Segment],
        valid_T: Tensor | None,
        bias_HNN: Tensor | None = None,
        kept: KeyValues | None = None,
    ) -> tuple[Tensor, Routing | None]:
        """bias_HNN: addends to the scores of attention where the block has none of its own. kept: see SelfAttention."""
        if self.relative_positions is not None:
            bias_HNN = self.relative_positions()
        h_TD = by_modality(self.attention_norm, x_TD, segments)
        y_TD = by_modality(self.attention_scale, self.attention(h_TD, segments, bias_HNN, kept), segments)
        x_TD = x_TD + self.drop_path(y_TD, segments)
        h_TD = by_modality(self.ffn_norm, x_TD, segments)
        routing = None
        if isinstance(self.ffn, FeedForward | Multiway):
            y_TD = by_modality(self.ffn, h_TD, segments)
        elif isinstance(self.ffn, MultiwayMoE):
            y_TD, routing = self.ffn(h_TD, segments, valid_T)
        else:
            y_TD, routing = self.ffn(h_TD, valid_T)
        y_TD = by_modality(self.ffn_scale, y_TD, segments)
        return x_TD + self.drop_path(y_TD, segments), routing
