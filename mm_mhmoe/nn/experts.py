"""E two-matrix GELU networks whose weights are stacked.

Legend: N rows sent to experts, d their width, F hidden dim, E experts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_GRANULE = 256


class Experts(nn.Module):
    """Rows sorted by expert go through their expert: Linear, GELU, LayerNorm (optional), Linear.

    On CUDA in bf16 the products of all experts are one grouped call; elsewhere a loop over experts, which is as fast on
    CPUs. Both give the same numbers.

    Args:
        num_experts: E.
        dim: width of a row.
        hidden_dim: width between the two matrices.
        sub_ln: whether each expert has a LayerNorm before its second matrix.
    """

    def __init__(
        self, num_experts: int, dim: int, hidden_dim: int, *, sub_ln: bool = False, norm_eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.num_experts = num_experts
        self.norm_eps = norm_eps
        self.w1_EdF = nn.Parameter(torch.empty(num_experts, dim, hidden_dim))
        self.b1_EF = nn.Parameter(torch.zeros(num_experts, hidden_dim))
        self.w2_EFd = nn.Parameter(torch.empty(num_experts, hidden_dim, dim))
        self.b2_Ed = nn.Parameter(torch.zeros(num_experts, dim))
        self.norm_scale_EF = nn.Parameter(torch.ones(num_experts, hidden_dim)) if sub_ln else None
        self.norm_bias_EF = nn.Parameter(torch.zeros(num_experts, hidden_dim)) if sub_ln else None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Each expert starts like a Linear of torch."""
        for weight_EIO in (self.w1_EdF, self.w2_EFd):
            bound = 1.0 / math.sqrt(weight_EIO.shape[1])
            weight_EIO.uniform_(-bound, bound)

    def forward(self, x_Nd: Tensor, counts: Sequence[int]) -> Tensor:
        """(N, d) -> (N, d).

        Args:
            counts: rows of each expert, in the order of the rows; they sum to N.
        """
        if len(counts) != self.num_experts or sum(counts) != len(x_Nd):
            raise ValueError(f"counts {list(counts)} do not share {len(x_Nd)} rows among {self.num_experts} experts")
        if x_Nd.is_cuda and _compute_dtype(x_Nd) == torch.bfloat16:
            return self.grouped(x_Nd, counts)
        return self.looped(x_Nd, counts)

    def looped(self, x_Nd: Tensor, counts: Sequence[int]) -> Tensor:
        """One expert after the other; the reference."""
        outputs = [self._one(e, rows_Nd) for e, rows_Nd in enumerate(x_Nd.split(list(counts))) if len(rows_Nd)]
        return torch.cat(outputs) if outputs else x_Nd.new_zeros(x_Nd.shape, dtype=_compute_dtype(x_Nd))

    def _one(self, e: int, x_Nd: Tensor) -> Tensor:
        rows = len(x_Nd)
        if x_Nd.device.type == "cpu" and _compute_dtype(x_Nd) == torch.bfloat16:
            # In bf16 the CPU library compiles its kernels anew for every number of rows it has not met, and the router
            # makes new ones in every step: filled up with zeros, there are few. They change no result and no gradient.
            x_Nd = F.pad(x_Nd, (0, 0, 0, -rows % _GRANULE))
        # F.linear takes part in autocast where addmm on slices of the stack would not.
        h_NF = F.gelu(F.linear(x_Nd, self.w1_EdF[e].t(), self.b1_EF[e]))
        if self.norm_scale_EF is not None and self.norm_bias_EF is not None:
            h_NF = F.layer_norm(h_NF, h_NF.shape[1:], self.norm_scale_EF[e], self.norm_bias_EF[e], self.norm_eps)
        return F.linear(h_NF, self.w2_EFd[e].t(), self.b2_Ed[e])[:rows]

    def grouped(self, x_Nd: Tensor, counts: Sequence[int]) -> Tensor:
        """All experts in two grouped products (torch.nn.functional.grouped_mm); d and F must be multiples of 8."""
        dtype = _compute_dtype(x_Nd)
        count_E = torch.tensor(counts, device=x_Nd.device)
        ends_E = count_E.cumsum(0).to(torch.int32)
        of_N = torch.arange(self.num_experts, device=x_Nd.device).repeat_interleave(count_E, output_size=len(x_Nd))
        h_NF = F.grouped_mm(x_Nd.to(dtype), self.w1_EdF.to(dtype), offs=ends_E) + self.b1_EF.to(dtype)[of_N]
        h_NF = F.gelu(h_NF)
        if self.norm_scale_EF is not None and self.norm_bias_EF is not None:
            h_NF = F.layer_norm(h_NF, h_NF.shape[1:], eps=self.norm_eps)
            h_NF = (h_NF * self.norm_scale_EF[of_N] + self.norm_bias_EF[of_N]).to(dtype)
        return F.grouped_mm(h_NF, self.w2_EFd.to(dtype), offs=ends_E) + self.b2_Ed.to(dtype)[of_N]


def _compute_dtype(x: Tensor) -> torch.dtype:
    """What a Linear would compute in: autocast's dtype where it is on."""
    if torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype
