"""Multi-Head Mixture-of-Experts (arXiv 2404.15045, section 3).

Legend: T tokens, D model dim, H heads, S = T H sub-tokens, d = D / H.
"""

from __future__ import annotations

import math

from einops import rearrange
from torch import Tensor, nn

from mm_mhmoe.nn.router import Routing


class MultiHeadMoE(nn.Module):
    """Splits every token into H sub-tokens, lets any sparse layer work on them, and merges them again.

    x -> multi-head layer -> split -> moe on sub-tokens -> merge -> merge layer. With one head and no projections it is
    the sparse layer itself.

    Args:
        dim: width of a token; a multiple of heads.
        heads: sub-tokens of a token (4 in the paper).
        moe: any sparse layer `(x_Sd, valid_S) -> (y_Sd, Routing)` on width dim / heads.
        projections: whether the multi-head and merge layers are there.
    """

    def __init__(self, dim: int, heads: int, moe: nn.Module, *, projections: bool = True) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise ValueError(f"dim={dim} cannot be split into heads={heads} sub-tokens; use a divisor of dim")
        self.heads = heads
        self.moe = moe
        self.head = nn.Linear(dim, dim) if projections else nn.Identity()
        self.merge = nn.Linear(dim, dim) if projections else nn.Identity()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As the authors' code: Xavier, with gain 1/sqrt(2) for the multi-head layer; no bias at the merge layer."""
        if isinstance(self.head, nn.Linear) and isinstance(self.merge, nn.Linear):
            nn.init.xavier_uniform_(self.head.weight, gain=1 / math.sqrt(2))
            nn.init.xavier_uniform_(self.merge.weight)
            nn.init.zeros_(self.merge.bias)

    def forward(self, x_TD: Tensor, valid_T: Tensor | None = None) -> tuple[Tensor, Routing]:
        """(T, D) -> (T, D) and the routing of the sub-tokens; sub-token h of token t is row t H + h."""
        x_Sd = rearrange(self.head(x_TD), "t (h d) -> (t h) d", h=self.heads)
        valid_S = None if valid_T is None else valid_T.repeat_interleave(self.heads)
        y_Sd, routing = self.moe(x_Sd, valid_S)
        return self.merge(rearrange(y_Sd, "(t h) d -> t (h d)", h=self.heads)), routing
