"""What stands between the two matrices of an expert, with its derivative written out.

Legend: N rows, F hidden dim, P columns of the first product (F for GELU, 2 F for SwiGLU).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

Activation = Literal["gelu", "swiglu"]


def first_columns(kind: Activation, hidden_dim: int) -> int:
    """P: columns of the first matrix. Raises ValueError for a kind that there is not."""
    if kind not in get_args(Activation):
        raise ValueError(f"activation={kind!r} is not one of {', '.join(get_args(Activation))}")
    return 2 * hidden_dim if kind == "swiglu" else hidden_dim


def activate(kind: Activation, p_NP: Tensor, *, overwrite: bool = False) -> Tensor:
    """GELU (with erf), or SiLU of the first half times the second half (SwiGLU, arXiv 2002.05202).

    With `overwrite`, p_NP is lost and its memory holds the result.
    """
    if kind == "gelu":
        return torch.ops.aten.gelu_(p_NP) if overwrite else F.gelu(p_NP)
    gate_NF, up_NF = p_NP.chunk(2, dim=-1)
    return F.silu(gate_NF, inplace=overwrite).mul_(up_NF) if overwrite else F.silu(gate_NF) * up_NF


def activate_backward(kind: Activation, grad_NF: Tensor, p_NP: Tensor) -> Tensor:
    """The gradient at p_NP for a gradient at `activate(kind, p_NP)`, which is overwritten."""
    if kind == "gelu":
        return torch.ops.aten.gelu_backward.grad_input(grad_NF, p_NP, grad_input=grad_NF)
    gate_NF, up_NF = p_NP.chunk(2, dim=1)
    grad_NP = torch.empty_like(p_NP)
    grad_NP[:, : gate_NF.shape[1]] = torch.ops.aten.silu_backward(grad_NF * up_NF, gate_NF)
    grad_NP[:, gate_NF.shape[1] :] = grad_NF.mul_(F.silu(gate_NF))
    return grad_NP
