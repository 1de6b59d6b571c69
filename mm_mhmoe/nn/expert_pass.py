"""Forward and backward of E two-matrix networks on sorted rows, one expert after the other.

What autograd would keep of such a network is many times its input. Here only the (sub-)tokens and the products of the
first matrix are kept, or the (sub-)tokens alone; the rest is computed again. The gradients of the stacked weights are
written where they belong, not added up from one stack an expert.

Legend: S (sub-)tokens, d their width, N rows sent to experts, n rows of one expert, F hidden dim, P columns of the
first product (F, or 2 F for SwiGLU), E experts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mm_mhmoe.nn.activations import Activation, activate, activate_backward
from mm_mhmoe.nn.rows import Rows

_GRANULE = 256


class Weights(NamedTuple):
    """The parameters of one expert, or stacked those of all. Biases and the LayerNorm before w2 may be absent."""

    w1_dP: Tensor
    w2_Fd: Tensor
    b1_P: Tensor | None = None
    b2_d: Tensor | None = None
    scale_F: Tensor | None = None
    shift_F: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class PassOptions:
    """What is no tensor. `dtype`: of the products. `keep`: the first product is kept for the backward pass."""

    activation: Activation
    norm_eps: float
    dtype: torch.dtype
    keep: bool


def expert_pass(x_Sd: Tensor, rows: Rows, weights: Weights, options: PassOptions) -> Tensor:
    """Gathers every expert's rows and sends them through it: (S, d) -> (N, d), sorted by expert."""
    return _ExpertPass.apply(x_Sd, rows, options, *weights)  # type: ignore[no-untyped-call,no-any-return]


class _ExpertPass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_Sd: Tensor, rows: Rows, options: PassOptions, *stacks: Tensor | None) -> Tensor:
        number, weights, kept = len(rows.source_N), Weights(*stacks), []  # type: ignore[arg-type]
        y_Nd = x_Sd.new_empty(number + _GRANULE, weights.w2_Fd.shape[2], dtype=options.dtype)
        with _explicit_dtypes(x_Sd):
            x_Sc = _with_ones(x_Sd.to(options.dtype), weights)
            for e, start, count, filled in _blocks(rows, y_Nd):
                one = _one(weights, e, options.dtype)
                p_nP = torch.mm(_gather(x_Sc, rows.source_N[start : start + count], filled), one.w1_cP)
                h_nF = activate(options.activation, p_nP, overwrite=not options.keep)
                _product(_normalised(h_nF, one, options), one.w2_Fd, one.b2_d, out=y_Nd[start : start + filled])
                if options.keep:
                    kept.append(p_nP)
        ctx.rows, ctx.options = rows, options
        ctx.save_for_backward(x_Sd, *stacks, *kept)
        return y_Nd[:number]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_Nd: Tensor) -> tuple[Any, ...]:
        rows, options = ctx.rows, ctx.options
        x_Sd, *saved = ctx.saved_tensors  # asked for once only: activation checkpointing computes them again
        weights, kept = Weights(*saved[: len(Weights._fields)]), saved[len(Weights._fields) :]
        grads = Weights(*(None if stack is None else torch.zeros_like(stack) for stack in weights))  # type: ignore[arg-type]
        grad_x_Nd = grad_Nd.new_empty(len(grad_Nd) + _GRANULE, x_Sd.shape[1])
        with _explicit_dtypes(x_Sd):
            x_Sc = _with_ones(x_Sd.to(options.dtype), weights)
            for i, (e, start, count, filled) in enumerate(_blocks(rows, grad_Nd)):
                one = _one(weights, e, options.dtype)
                x_nc = _gather(x_Sc, rows.source_N[start : start + count], filled)
                p_nP = kept[i] if kept else torch.mm(x_nc, one.w1_cP)
                grad_nd = F.pad(grad_Nd[start : start + count], (0, 0, 0, filled - count))
                grad_p_nP = _backward_one(grad_nd, x_nc, p_nP, one, grads, e, options)
                torch.mm(grad_p_nP, one.w1_cP[: x_Sd.shape[1]].t(), out=grad_x_Nd[start : start + filled])
        return rows.sum(grad_x_Nd[: len(grad_Nd)]).to(x_Sd.dtype), None, None, *grads


def _backward_one(
    grad_nd: Tensor, x_nc: Tensor, p_nP: Tensor, one: _One, grads: Weights, e: int, options: PassOptions
) -> Tensor:
    """Writes the gradients of expert e's parameters and returns that of its first product."""
    h_nF = a_nF = activate(options.activation, p_nP)
    grad_a_nF = grad_nd @ one.w2_Fd.t()
    if grads.scale_F is not None and grads.shift_F is not None:
        shape = a_nF.shape[1:]
        h_nF, mean, deviation = torch.native_layer_norm(a_nF, shape, one.scale_F, one.shift_F, options.norm_eps)
        grad_a_nF, grads.scale_F[e], grads.shift_F[e] = torch.ops.aten.native_layer_norm_backward(
            grad_a_nF, a_nF, shape, mean, deviation, one.scale_F, one.shift_F, [True, True, True]
        )
    grads.w2_Fd[e] = (grad_nd.t() @ h_nF).t()  # on CPUs faster than the product that needs no transposing
    if grads.b2_d is not None:
        grads.b2_d[e] = grad_nd.sum(dim=0)
    grad_p_nP = activate_backward(options.activation, grad_a_nF, p_nP)
    grad_w1_cP = x_nc.t() @ grad_p_nP
    grads.w1_dP[e] = grad_w1_cP[: grads.w1_dP.shape[1]]
    if grads.b1_P is not None:
        grads.b1_P[e] = grad_w1_cP[-1]
    return grad_p_nP


class _One(NamedTuple):
    """The parameters of one expert in the dtype of the products. c: d, and one for the bias where there is one."""

    w1_cP: Tensor
    w2_Fd: Tensor
    b2_d: Tensor | None
    scale_F: Tensor | None
    shift_F: Tensor | None


def _one(weights: Weights, e: int, dtype: torch.dtype) -> _One:
    """The bias of the first product becomes a row of its matrix: added on its own it costs a pass over the product.

    On CPUs a LayerNorm may keep a wider dtype.
    """
    w1_dP, w2_Fd, b1_P, b2_d = (None if stack is None else stack[e].to(dtype) for stack in weights[:4])
    norm = [s if s is None else s[e] if s.device.type == "cpu" else s[e].to(dtype) for s in weights[4:]]
    if b1_P is not None:
        w1_dP = torch.cat([w1_dP, b1_P.unsqueeze(0)])  # type: ignore[list-item]
    return _One(w1_dP, w2_Fd, b2_d, *norm)  # type: ignore[arg-type]


def _with_ones(x_Sd: Tensor, weights: Weights) -> Tensor:
    return x_Sd if weights.b1_P is None else F.pad(x_Sd, (0, 1), value=1.0)


def _blocks(rows: Rows, like: Tensor) -> Iterator[tuple[int, int, int, int]]:
    """Expert, first row, number of rows, and that number filled up, for every expert that has rows.

    The CPU library compiles its bf16 kernels anew for every number of rows it has not met, and the router makes new
    ones in every step: filled up to the next multiple, there are few. What the rows too many give is overwritten by the
    next expert; their gradient is zero.
    """
    granule = _GRANULE if like.device.type == "cpu" and like.dtype == torch.bfloat16 else 1
    start = 0
    for e, count in enumerate(rows.counts):
        if count:
            yield e, start, count, count + -count % granule
        start += count


def _gather(x_Sc: Tensor, source_n: Tensor, filled: int) -> Tensor:
    """Rows too many repeat the expert's first."""
    return x_Sc.index_select(0, torch.cat([source_n, source_n[:1].expand(filled - len(source_n))]))


def _product(x_nF: Tensor, w_Fd: Tensor, b_d: Tensor | None, out: Tensor) -> None:
    if b_d is None:
        torch.mm(x_nF, w_Fd, out=out)
    else:
        torch.addmm(b_d, x_nF, w_Fd, out=out)


def _normalised(a_nF: Tensor, one: _One, options: PassOptions) -> Tensor:
    if one.scale_F is None:
        return a_nF
    return F.layer_norm(a_nF, a_nF.shape[1:], one.scale_F, one.shift_F, options.norm_eps)


def _explicit_dtypes(x: Tensor) -> Any:
    """No autocast: the dtypes are chosen here."""
    return torch.autocast(x.device.type, enabled=False)
