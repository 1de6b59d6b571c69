"""The dense FFN. Legend: T tokens, D model dim, F hidden dim."""

from __future__ import annotations

from torch import Tensor, nn

from mm_mhmoe.nn.activations import Activation, activate, first_columns


class FeedForward(nn.Module):
    """Linear, GELU or SwiGLU, LayerNorm (sub-LN, arXiv 2210.06423), Linear.

    Args:
        dim: width of a token.
        hidden_dim: width between the two matrices.
        activation: gelu; or swiglu, whose first matrix is twice as wide (arXiv 2002.05202).
        bias: whether both matrices have a bias.
        sub_ln: whether the inner LayerNorm is there.
    """

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        *,
        activation: Activation = "gelu",
        bias: bool = True,
        sub_ln: bool = True,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.activation: Activation = activation
        self.fc1 = nn.Linear(dim, first_columns(activation, hidden_dim), bias=bias)
        self.norm = nn.LayerNorm(hidden_dim, eps=norm_eps) if sub_ln else nn.Identity()
        self.fc2 = nn.Linear(hidden_dim, dim, bias=bias)

    def forward(self, x_TD: Tensor) -> Tensor:
        return self.fc2(self.norm(activate(self.activation, self.fc1(x_TD))))
