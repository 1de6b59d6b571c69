"""Multi-Head Mixture-of-Experts (arXiv 2404.15045, section 3).

Legend: T tokens, D model dim, H heads, S = T H sub-tokens, d = D / H.
"""

from __future__ import annotations

import math

from einops import rearrange
from torch import Tensor, nn

from mm_mhmoe.nn.routing import Routing


class MultiHeadMoE(nn.Module):
    """Splits every token into H sub-tokens, lets any sparse layer work on them, and merges them again.

    x -> multi-head layer -> split -> moe on sub-tokens -> merge -> merge layer. With one head and no projections it is
    the sparse layer itself.

    Args:
        dim: width of a token; a multiple of heads.
        heads: sub-tokens of a token (4 in the paper; 1: no token is split, as in one row of the paper's ablation).
        moe: any sparse layer `(x_Sd, valid_S) -> (y_Sd, Routing)` on width dim / heads.
        projection_layers: linear maps in the multi-head layer and in the merge layer each, with GELU between them (the
            paper names no function there). The paper uses 1 and compares 0 to 3.
        inner_residual: adds each sub-token to its own output, as equation 6 of the paper but neither its algorithm 1
            nor the authors' code.
    """

    def __init__(
        self, dim: int, heads: int, moe: nn.Module, *, projection_layers: int = 1, inner_residual: bool = False
    ) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise ValueError(f"dim={dim} cannot be split into heads={heads} sub-tokens; use a divisor of dim")
        if projection_layers < 0:
            raise ValueError(f"projection_layers={projection_layers} must be 0 or more")
        self.heads = heads
        self.moe = moe
        self.head = _projection(dim, projection_layers)
        self.merge = _projection(dim, projection_layers)
        self.inner_residual = inner_residual
        self.reset_parameters()

    def projections(self) -> list[nn.Linear]:
        """The linear maps before the split and after the merge."""
        return [m for part in (self.head, self.merge) for m in part.modules() if isinstance(m, nn.Linear)]

    def reset_parameters(self) -> None:
        """As the authors' code: Xavier, with gain 1/sqrt(2) for the multi-head layer; no bias at the merge layer.

        The paper says nothing of it, so there is nothing to choose between; `projections` are there to start otherwise.
        """
        for part, gain in ((self.head, 1 / math.sqrt(2)), (self.merge, 1.0)):
            for layer in part.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.xavier_uniform_(layer.weight, gain=gain)
                    if part is self.merge:
                        nn.init.zeros_(layer.bias)

    def forward(self, x_TD: Tensor, valid_T: Tensor | None = None) -> tuple[Tensor, Routing]:
        """(T, D) -> (T, D) and the routing of the sub-tokens; sub-token h of token t is row t H + h."""
        x_Sd = rearrange(self.head(x_TD), "t (h d) -> (t h) d", h=self.heads)
        valid_S = None if valid_T is None else valid_T.repeat_interleave(self.heads)
        y_Sd, routing = self.moe(x_Sd, valid_S)
        if self.inner_residual:
            y_Sd = y_Sd + (x_Sd if valid_S is None else x_Sd.masked_fill(~valid_S.unsqueeze(1), 0.0))
        return self.merge(rearrange(y_Sd, "(t h) d -> t (h d)", h=self.heads)), routing


def _projection(dim: int, layers: int) -> nn.Module:
    if layers == 0:
        return nn.Identity()
    if layers == 1:
        return nn.Linear(dim, dim)
    between = [part for _ in range(layers - 1) for part in (nn.Linear(dim, dim), nn.GELU())]
    return nn.Sequential(*between, nn.Linear(dim, dim))
