"""E two-matrix networks whose weights are stacked.

Legend: S (sub-)tokens, d their width, N rows sent to experts, E experts, F hidden dim (w1 and b1 have 2 F columns for
SwiGLU).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mm_mhmoe.nn.activations import Activation, activate, first_columns
from mm_mhmoe.nn.expert_pass import Keep, PassOptions, Weights, expert_pass
from mm_mhmoe.nn.rows import Rows


class Experts(nn.Module):
    """Every row goes through its expert: matrix, GELU or SwiGLU, LayerNorm (optional), matrix.

    On CUDA in bf16 the products of all experts are one grouped call; elsewhere one expert follows the other, which is
    as fast on CPUs. Both give the same numbers.

    Args:
        num_experts: E.
        dim: width of a row.
        hidden_dim: width between the two matrices.
        activation: gelu; or swiglu, whose first matrix is twice as wide (arXiv 2002.05202; Mixtral, DeepSeekMoE).
        bias: whether both matrices have a bias.
        sub_ln: whether each expert has a LayerNorm before its second matrix.
        keep: what is kept for the backward pass, which computes the rest again. tokens: the (sub-)tokens alone. hidden:
            also the first product, the largest part. all: also what activation and LayerNorm make of it.
    """

    def __init__(
        self,
        num_experts: int,
        dim: int,
        hidden_dim: int,
        *,
        activation: Activation = "gelu",
        bias: bool = True,
        sub_ln: bool = False,
        norm_eps: float = 1e-5,
        keep: Keep = "hidden",
    ) -> None:
        super().__init__()
        self.num_experts = num_experts
        self.activation: Activation = activation
        self.norm_eps = norm_eps
        self.keep: Keep = keep
        columns = first_columns(activation, hidden_dim)
        self.w1_EdF = nn.Parameter(torch.empty(num_experts, dim, columns))
        self.b1_EF = nn.Parameter(torch.zeros(num_experts, columns)) if bias else None
        self.w2_EFd = nn.Parameter(torch.empty(num_experts, hidden_dim, dim))
        self.b2_Ed = nn.Parameter(torch.zeros(num_experts, dim)) if bias else None
        self.norm_scale_EF = nn.Parameter(torch.ones(num_experts, hidden_dim)) if sub_ln else None
        self.norm_bias_EF = nn.Parameter(torch.zeros(num_experts, hidden_dim)) if sub_ln else None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Each expert starts like a Linear of torch."""
        for weight_EIO in (self.w1_EdF, self.w2_EFd):
            bound = 1.0 / math.sqrt(weight_EIO.shape[1])
            weight_EIO.uniform_(-bound, bound)

    def forward(self, x_Sd: Tensor, rows: Rows) -> Tensor:
        """(S, d) -> (N, d): every row is gathered from its (sub-)token and sent through its expert."""
        if len(rows.counts) != self.num_experts:
            raise ValueError(f"rows for {len(rows.counts)} experts were given to {self.num_experts} experts")
        if x_Sd.is_cuda and _compute_dtype(x_Sd) == torch.bfloat16:
            return self.grouped(x_Sd, rows)
        return self.looped(x_Sd, rows)

    def looped(self, x_Sd: Tensor, rows: Rows) -> Tensor:
        """One expert after the other."""
        stacks = (self.w1_EdF, self.w2_EFd, self.b1_EF, self.b2_Ed, self.norm_scale_EF, self.norm_bias_EF)
        options = PassOptions(
            activation=self.activation,
            norm_eps=self.norm_eps,
            dtype=_compute_dtype(x_Sd),
            keep=self.keep if torch.is_grad_enabled() else "tokens",
        )
        return expert_pass(x_Sd, rows, Weights(*stacks), options)

    def grouped(self, x_Sd: Tensor, rows: Rows) -> Tensor:
        """All experts in two grouped products (torch.nn.functional.grouped_mm); d and F must be multiples of 8."""
        count_E = torch.tensor(rows.counts, device=x_Sd.device)
        ends_E = count_E.cumsum(0).to(torch.int32)
        number = len(rows.source_N)
        of_N = torch.arange(self.num_experts, device=x_Sd.device).repeat_interleave(count_E, output_size=number)
        dtype = _compute_dtype(x_Sd)

        def first(x_Sd: Tensor) -> Tensor:
            p_NP = F.grouped_mm(x_Sd.index_select(0, rows.source_N).to(dtype), self.w1_EdF.to(dtype), offs=ends_E)
            return p_NP if self.b1_EF is None else p_NP + self.b1_EF.to(dtype)[of_N]

        def second(p_NP: Tensor) -> Tensor:
            h_NF = activate(self.activation, p_NP)
            if self.norm_scale_EF is not None and self.norm_bias_EF is not None:
                h_NF = F.layer_norm(h_NF, h_NF.shape[1:], eps=self.norm_eps)
                h_NF = (h_NF * self.norm_scale_EF[of_N] + self.norm_bias_EF[of_N]).to(dtype)
            # Before the product: computing again ends at the last tensor that backward needs, the product's input.
            b2_Nd = None if self.b2_Ed is None else self.b2_Ed.to(dtype)[of_N]
            y_Nd = F.grouped_mm(h_NF, self.w2_EFd.to(dtype), offs=ends_E)
            return y_Nd if b2_Nd is None else y_Nd + b2_Nd

        if self.keep == "all" or not torch.is_grad_enabled():
            return second(first(x_Sd))
        if self.keep == "hidden":
            return _computed_again(second, first(x_Sd))
        return _computed_again(lambda x_Sd: second(first(x_Sd)), x_Sd)


def _computed_again(part: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """part(x), of which nothing but x is kept for the backward pass."""
    return checkpoint(part, x, use_reentrant=False, preserve_rng_state=False)  # type: ignore[no-any-return]


def _compute_dtype(x: Tensor) -> torch.dtype:
    """What a Linear would compute in: autocast's dtype where it is on."""
    if torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype
