"""The dense FFN. Legend: T tokens, D model dim, F hidden dim."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class FeedForward(nn.Module):
    """Linear, GELU, LayerNorm (sub-LN, arXiv 2210.06423), Linear.

    Args:
        dim: width of a token.
        hidden_dim: width between the two matrices.
        sub_ln: whether the inner LayerNorm is there.
    """

    def __init__(self, dim: int, hidden_dim: int, *, sub_ln: bool = True, norm_eps: float = 1e-5) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.norm = nn.LayerNorm(hidden_dim, eps=norm_eps) if sub_ln else nn.Identity()
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x_TD: Tensor) -> Tensor:
        return self.fc2(self.norm(F.gelu(self.fc1(x_TD))))
