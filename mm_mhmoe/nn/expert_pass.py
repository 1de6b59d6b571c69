"""Forward and backward of E two-matrix networks on sorted rows, one expert after the other.

What autograd would keep of such a network is many times its input. Here it is a choice (`Keep`), and what was not kept
is computed again. The gradients of the stacked weights are written where they belong, not added up from one stack an
expert; what is frozen costs no product.

Legend: S (sub-)tokens, d their width, N rows sent to experts, n rows of one expert, F hidden dim, P columns of the
first product (F, or 2 F for SwiGLU), E experts, c: d, and one more for the bias where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mm_mhmoe.nn.activations import Activation, activate, activate_backward
from mm_mhmoe.nn.rows import Rows

Keep = Literal["all", "hidden", "tokens"]


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
    """What is no tensor.

    dtype: of the products.
    keep:  for the backward pass. tokens: the (sub-)tokens alone. hidden: also the first product. all: also what the
           activation and the LayerNorm make of it.
    """

    activation: Activation
    norm_eps: float
    dtype: torch.dtype
    keep: Keep


def expert_pass(x_Sd: Tensor, rows: Rows, weights: Weights, options: PassOptions) -> Tensor:
    """Gathers every expert's rows and sends them through it: (S, d) -> (N, d), sorted by expert."""
    return _ExpertPass.apply(x_Sd, rows, options, *weights)  # type: ignore[no-untyped-call,no-any-return]


class _ExpertPass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_Sd: Tensor, rows: Rows, options: PassOptions, *stacks: Tensor | None) -> Tensor:
        weights = Weights(*stacks)  # type: ignore[arg-type]
        kept: list[Tensor | None] = []
        with _explicit_dtypes(x_Sd):
            x_Nc = _gather(x_Sd, rows, weights, options.dtype)
            y_Nd = x_Nc.new_empty(len(x_Nc), x_Sd.shape[1])
            for e, start, _, stop in _blocks(rows, x_Nc):
                one = _one(weights, e, options.dtype)
                p_nP = torch.mm(x_Nc[start:stop], one.w1_cP)
                states = _states(p_nP, one, options, overwrite=options.keep == "tokens")
                _product(states.h_nF, one.w2_Fd, one.b2_d, out=y_Nd[start:stop])
                kept += states[: _KEPT_STATES[options.keep]]
        ctx.counts, ctx.options, ctx.x_dtype = rows.counts, options, x_Sd.dtype
        ctx.save_for_backward(x_Nc if options.keep == "all" else x_Sd, *rows.tensors, *stacks, *kept)
        return y_Nd[: len(rows.source_N)]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_Nd: Tensor) -> tuple[Any, ...]:
        options = ctx.options
        # Asked for once only: activation checkpointing computes them again.
        x, source_N, row_N, first_S, *saved = ctx.saved_tensors
        rows = Rows(ctx.counts, source_N, row_N, first_S)
        weights, kept = Weights(*saved[: len(Weights._fields)]), saved[len(Weights._fields) :]
        needs_x, _, _, *needed = ctx.needs_input_grad[: 3 + len(weights)]
        asked = (w if is_needed else None for w, is_needed in zip(weights, needed, strict=True))
        grads = _Grads(*(None if w is None else torch.zeros_like(w) for w in asked))
        number, width = grad_Nd.shape
        with _explicit_dtypes(x):
            x_Nc = x if options.keep == "all" else _gather(x, rows, weights, options.dtype)
            grad_x_Nd = x_Nc.new_empty(len(x_Nc), width)
            for e, start, end, stop in _blocks(rows, x_Nc):
                one, x_nc = _one(weights, e, options.dtype), x_Nc[start:stop]
                found, kept = kept[: _KEPT_STATES[options.keep]], kept[_KEPT_STATES[options.keep] :]
                if options.keep != "all":
                    found = _states(found[0] if found else torch.mm(x_nc, one.w1_cP), one, options)
                grad_nd = grad_Nd[start:end] if end == stop else F.pad(grad_Nd[start:end], (0, 0, 0, stop - end))
                grad_p_nP = _backward_one(grad_nd, x_nc, _States(*found), one, grads, e, options)
                if needs_x:
                    torch.mm(grad_p_nP, one.w1_cP[:width].t(), out=grad_x_Nd[start:stop])
        return rows.sum(grad_x_Nd[:number]).to(ctx.x_dtype) if needs_x else None, None, None, *grads


def _backward_one(
    grad_nd: Tensor, x_nc: Tensor, states: _States, one: _One, grads: _Grads, e: int, options: PassOptions
) -> Tensor:
    """Writes those gradients of expert e's parameters that are there and returns that of its first product."""
    if grads.w2_Fd is not None:
        grads.w2_Fd[e] = (grad_nd.t() @ states.h_nF).t()  # on CPUs faster than the product that needs no transposing
    if grads.b2_d is not None:
        grads.b2_d[e] = grad_nd.sum(dim=0)
    grad_a_nF = grad_nd @ one.w2_Fd.t()
    if one.scale_F is not None:
        grad_a_nF, grad_scale_F, grad_shift_F = torch.ops.aten.native_layer_norm_backward(
            grad_a_nF,
            states.a_nF,
            states.a_nF.shape[1:],
            states.mean_n,
            states.deviation_n,
            one.scale_F,
            one.shift_F,
            [True, grads.scale_F is not None, grads.shift_F is not None],
        )
        if grads.scale_F is not None:
            grads.scale_F[e] = grad_scale_F
        if grads.shift_F is not None:
            grads.shift_F[e] = grad_shift_F
    grad_p_nP = activate_backward(options.activation, grad_a_nF, states.p_nP)
    if grads.w1_dP is not None or grads.b1_P is not None:
        grad_w1_cP = x_nc.t() @ grad_p_nP
        if grads.w1_dP is not None:
            grads.w1_dP[e] = grad_w1_cP[: grads.w1_dP.shape[1]]
        if grads.b1_P is not None:
            grads.b1_P[e] = grad_w1_cP[-1]
    return grad_p_nP


class _Grads(NamedTuple):
    """Gradients of `Weights`; None where nobody asks for one."""

    w1_dP: Tensor | None
    w2_Fd: Tensor | None
    b1_P: Tensor | None
    b2_d: Tensor | None
    scale_F: Tensor | None
    shift_F: Tensor | None


class _States(NamedTuple):
    """Of one expert: the first product, its activation, and the second product's input, which without LayerNorm is
    the activation."""

    p_nP: Tensor
    a_nF: Tensor
    h_nF: Tensor
    mean_n: Tensor | None = None
    deviation_n: Tensor | None = None


_KEPT_STATES = {"all": len(_States._fields), "hidden": 1, "tokens": 0}


def _states(p_nP: Tensor, one: _One, options: PassOptions, *, overwrite: bool = False) -> _States:
    """With `overwrite`, the activation takes the first product's memory."""
    a_nF = activate(options.activation, p_nP, overwrite=overwrite)
    if one.scale_F is None:
        return _States(p_nP, a_nF, a_nF)
    normed = torch.native_layer_norm(a_nF, a_nF.shape[1:], one.scale_F, one.shift_F, options.norm_eps)
    return _States(p_nP, a_nF, *normed)


class _One(NamedTuple):
    """The parameters of one expert in the dtype of the products."""

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


def _granule(x: Tensor, dtype: torch.dtype) -> int:
    """To a multiple of this the rows of an expert are filled up.

    The CPU library compiles its bf16 kernels anew for every number of rows it has not met, and the router makes new
    ones in every step: filled up there are few.
    """
    return 256 if x.device.type == "cpu" and dtype == torch.bfloat16 else 1


def _gather(x_Sd: Tensor, rows: Rows, weights: Weights, dtype: torch.dtype) -> Tensor:
    """The rows of all experts, with a column of ones where there is a bias, and zeros to fill up the last expert's.

    All at once: between experts the (sub-)tokens leave the cache.
    """
    number, width = len(rows.source_N), x_Sd.shape[1]
    columns = width if weights.b1_P is None else width + 1
    x_Nc = x_Sd.new_empty(number + _granule(x_Sd, dtype) - 1, columns, dtype=dtype)
    x_Nc[number:] = 0.0
    x_Nc[:, width:] = 1.0
    torch.index_select(x_Sd.to(dtype), 0, rows.source_N, out=x_Nc[:number, :width])
    return x_Nc


def _blocks(rows: Rows, x_Nc: Tensor) -> Iterator[tuple[int, int, int, int]]:
    """Expert, first row, end of its rows, and end when they are filled up, for every expert that has rows.

    The rows too many are the next expert's. What comes of them the next expert overwrites; their gradient is zero.
    """
    granule, start = _granule(x_Nc, x_Nc.dtype), 0
    for e, count in enumerate(rows.counts):
        if count:
            yield e, start, start + count, start + count + -count % granule
        start += count


def _product(x_nF: Tensor, w_Fd: Tensor, b_d: Tensor | None, out: Tensor) -> None:
    if b_d is None:
        torch.mm(x_nF, w_Fd, out=out)
    else:
        torch.addmm(b_d, x_nF, w_Fd, out=out)


def _explicit_dtypes(x: Tensor) -> Any:
    """No autocast: the dtypes are chosen here."""
    return torch.autocast(x.device.type, enabled=False)
