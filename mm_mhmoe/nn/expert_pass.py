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
        y_Nd = x_Sd.new_empty(len(rows.source_N), stacks[1].shape[2], dtype=options.dtype)  # type: ignore[union-attr]
        kept = []
        with _explicit_dtypes(x_Sd):
            for e, part in _parts(rows):
                one = _one(stacks, e, options.dtype)
                p_nP = _first_product(_gather(x_Sd, rows.source_N[part], options.dtype), one)
                y_nd = _product(_normalised(activate(options.activation, p_nP), one, options), one.w2_Fd, one.b2_d)
                y_Nd[part] = y_nd[: part.stop - part.start]
                if options.keep:
                    kept.append(p_nP)
        ctx.rows, ctx.options = rows, options
        ctx.save_for_backward(x_Sd, *stacks, *kept)
        return y_Nd

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_Nd: Tensor) -> tuple[Any, ...]:
        rows, options = ctx.rows, ctx.options
        stacks = ctx.saved_tensors[1 : 1 + len(Weights._fields)]
        x_Sd, kept = ctx.saved_tensors[0], ctx.saved_tensors[1 + len(stacks) :]
        grads = [None if stack is None else torch.zeros_like(stack) for stack in stacks]
        grad_x_Nd = grad_Nd.new_empty(len(grad_Nd), x_Sd.shape[1])
        with _explicit_dtypes(x_Sd):
            for i, (e, part) in enumerate(_parts(rows)):
                one = _one(stacks, e, options.dtype)
                x_nd = _gather(x_Sd, rows.source_N[part], options.dtype)
                p_nP = kept[i] if kept else _first_product(x_nd, one)
                grad_x_nd, found = _backward_one(_fill_up(grad_Nd[part]), x_nd, p_nP, one, options)
                grad_x_Nd[part] = grad_x_nd[: part.stop - part.start]
                for grad, value in zip(grads, found, strict=True):
                    if grad is not None and value is not None:
                        grad[e] = value
        return rows.sum(grad_x_Nd).to(x_Sd.dtype), None, None, *grads


def _backward_one(
    grad_nd: Tensor, x_nd: Tensor, p_nP: Tensor, one: Weights, options: PassOptions
) -> tuple[Tensor, Weights]:
    """The gradients of one expert's rows and of its parameters."""
    a_nF = activate(options.activation, p_nP)
    grad_h_nF = grad_nd @ one.w2_Fd.t()
    if one.scale_F is None:
        h_nF, grad_a_nF, grad_scale, grad_shift = a_nF, grad_h_nF, None, None
    else:
        shape = a_nF.shape[1:]
        h_nF, mean, deviation = torch.native_layer_norm(a_nF, shape, one.scale_F, one.shift_F, options.norm_eps)
        grad_a_nF, grad_scale, grad_shift = torch.ops.aten.native_layer_norm_backward(
            grad_h_nF, a_nF, shape, mean, deviation, one.scale_F, one.shift_F, [True, True, True]
        )
    grad_w2 = h_nF.t() @ grad_nd
    grad_p_nP = activate_backward(options.activation, grad_a_nF, p_nP)
    grads = Weights(
        w1_dP=x_nd.t() @ grad_p_nP,
        w2_Fd=grad_w2,
        b1_P=None if one.b1_P is None else grad_p_nP.sum(dim=0),
        b2_d=None if one.b2_d is None else grad_nd.sum(dim=0),
        scale_F=grad_scale,
        shift_F=grad_shift,
    )
    return grad_p_nP @ one.w1_dP.t(), grads


def _parts(rows: Rows) -> Iterator[tuple[int, slice]]:
    """The experts that have rows, and which."""
    end = 0
    for e, count in enumerate(rows.counts):
        end += count
        if count:
            yield e, slice(end - count, end)


def _one(stacks: Any, e: int, dtype: torch.dtype) -> Weights:
    """The parameters of expert e in the dtype of the products; on CPUs a LayerNorm may keep a wider one."""
    cast = [None if stack is None else stack[e].to(dtype) for stack in stacks[:4]]
    norm = [s if s is None else s[e] if s.device.type == "cpu" else s[e].to(dtype) for s in stacks[4:]]
    return Weights(*cast, *norm)  # type: ignore[arg-type]


def _gather(x_Sd: Tensor, source_n: Tensor, dtype: torch.dtype) -> Tensor:
    return _fill_up(x_Sd.index_select(0, source_n).to(dtype))


def _fill_up(x_nd: Tensor) -> Tensor:
    """On CPUs in bf16: rows of zeros up to the next multiple. They change no result and no gradient.

    The CPU library compiles its bf16 kernels anew for every number of rows it has not met, and the router makes new
    ones in every step: filled up, there are few.
    """
    if x_nd.device.type == "cpu" and x_nd.dtype == torch.bfloat16:
        return F.pad(x_nd, (0, 0, 0, -len(x_nd) % _GRANULE))
    return x_nd


def _first_product(x_nd: Tensor, one: Weights) -> Tensor:
    return _product(x_nd, one.w1_dP, one.b1_P)


def _product(x_nd: Tensor, w_dP: Tensor, b_P: Tensor | None) -> Tensor:
    return x_nd @ w_dP if b_P is None else torch.addmm(b_P, x_nd, w_dP)


def _normalised(a_nF: Tensor, one: Weights, options: PassOptions) -> Tensor:
    if one.scale_F is None:
        return a_nF
    return F.layer_norm(a_nF, a_nF.shape[1:], one.scale_F, one.shift_F, options.norm_eps)


def _explicit_dtypes(x: Tensor) -> Any:
    """No autocast: the dtypes are chosen here."""
    return torch.autocast(x.device.type, enabled=False)
