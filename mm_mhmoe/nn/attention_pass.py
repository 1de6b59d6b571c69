"""Attention as three products on the CPU, from fused queries, keys and values, with its backward pass written out.

The probabilities are kept for the backward pass, so this is for rows of a few hundred tokens. There it is faster than
torch's fused kernel, and than what autograd would derive, which copies and pads each of the three parts once more.

Legend: B batch, L sequence, H heads, d head dim, N = B H, T = B L tokens, C = 3 H d columns.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def attention_pass(qkv_TC: Tensor, num_heads: int, batch: int, mask: Tensor | None) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V in each of `batch` rows: (T, 3 H d) -> (T, H d).

    Args:
        mask: True where a key may be seen, or addends to the scores, which may want a gradient; of a shape that can be
            broadcast to (B, H, L, L).
    """
    return _AttentionPass.apply(qkv_TC, num_heads, batch, mask)  # type: ignore[no-untyped-call,no-any-return]


class _AttentionPass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv_TC: Tensor, num_heads: int, batch: int, mask: Tensor | None) -> Tensor:
        with torch.autocast(qkv_TC.device.type, enabled=False):
            heads_3NLd = _by_head(qkv_TC, 3, num_heads, batch)
            query_NLd, key_NLd, value_NLd = heads_3NLd
            scale = query_NLd.shape[2] ** -0.5
            score_NLL = torch.bmm(query_NLd, key_NLd.mT)
            if mask is None:
                score_NLL.mul_(scale)
            else:
                rows_BHLL = score_NLL.unflatten(0, (batch, num_heads))
                torch.add(_addend(mask, score_NLL.dtype), rows_BHLL, alpha=scale, out=rows_BHLL)
            prob_NLL = torch.softmax(score_NLL, -1, out=score_NLL)  # in bf16, torch computes it in fp32
            mixed_TD = _by_token(torch.bmm(prob_NLL, value_NLd).unsqueeze(0), batch)
        ctx.batch, ctx.num_heads, ctx.scale = batch, num_heads, scale
        ctx.mask_like = None if mask is None else (mask.shape, mask.dtype)
        ctx.save_for_backward(heads_3NLd, prob_NLL)
        return mixed_TD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TD: Tensor) -> tuple[Tensor, None, None, Tensor | None]:
        heads_3NLd, prob_NLL = ctx.saved_tensors
        query_NLd, key_NLd, value_NLd = heads_3NLd
        with torch.autocast(grad_TD.device.type, enabled=False):
            (grad_NLd,) = _by_head(grad_TD, 1, ctx.num_heads, ctx.batch)
            grads_3NLd = torch.empty_like(heads_3NLd)
            grad_NLL = torch.bmm(grad_NLd, value_NLd.mT)
            torch._softmax_backward_data(grad_NLL, prob_NLL, -1, prob_NLL.dtype, grad_input=grad_NLL)
            grad_mask = None
            if ctx.needs_input_grad[3]:
                shape, dtype = ctx.mask_like
                grad_mask = grad_NLL.unflatten(0, (ctx.batch, ctx.num_heads)).sum_to_size(shape).to(dtype)
            torch.bmm(grad_NLL, key_NLd, out=grads_3NLd[0])
            torch.bmm(grad_NLL.mT, query_NLd, out=grads_3NLd[1])
            torch.bmm(prob_NLL.mT, grad_NLd, out=grads_3NLd[2])
            grads_3NLd[:2].mul_(ctx.scale)
            return _by_token(grads_3NLd, ctx.batch), None, None, grad_mask


def _addend(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to scores: 0, or a number so low that no weight is left, but finite for rows of padding alone."""
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min / 2)


def _by_head(x_TC: Tensor, parts: int, num_heads: int, batch: int) -> Tensor:
    """(T, parts H d) -> (parts, N, L, d), copied."""
    split = x_TC.view(batch, -1, parts, num_heads, x_TC.shape[1] // (parts * num_heads))
    return split.permute(2, 0, 3, 1, 4).flatten(1, 2)


def _by_token(x_PNLd: Tensor, batch: int) -> Tensor:
    """The inverse of `_by_head`."""
    parts, heads, length, width = x_PNLd.shape
    split = x_PNLd.view(parts, batch, heads // batch, length, width)
    return split.permute(1, 3, 0, 2, 4).reshape(batch * length, -1)
