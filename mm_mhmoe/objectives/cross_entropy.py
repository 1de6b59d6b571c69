"""Cross-entropy of a linear head without all of its logits at once.

Shapes: M rows, D model dim, V classes, C rows of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Below so many logits the plain loss is as fast, and small enough: 262 rows of 64,010 classes, 2,048 of 8,192.
FUSED_FROM = 2**24
_CHUNK_LOGITS = 2**25
_GRANULE = 64


def fused_cross_entropy(states_MD: Tensor, targets_M: Tensor, head: nn.Linear) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy (nats, fp32) of `head` at the first len(targets_M) rows, and how many it predicts right.

    Logits of a chunk of rows are made, used for the loss and at once for the gradients, and forgotten, as in Liger's
    (arXiv 2410.10989) fused kernels; what is kept for the backward pass has the size of states and weights. Equals
    F.cross_entropy(head(states_MD).float(), targets_M), also under autocast. There is no second derivative.

    Args:
        states_MD: rows behind the targets are filling and get gradients of zero.
    """
    kind = states_MD.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states_MD.dtype
    loss, correct = _LinearCrossEntropy.apply(
        states_MD, head.weight, head.bias, targets_M, dtype, torch.is_grad_enabled()
    )
    return loss, correct


def split_head(head: Callable[[Tensor], Tensor]) -> tuple[Callable[[Tensor], Tensor], nn.Linear | None]:
    """A head as what comes before its last linear layer, and that layer; None where it does not end in one."""
    if isinstance(head, nn.Sequential) and isinstance(head[-1], nn.Linear):
        return head[:-1], head[-1]
    return nn.Identity(), head if isinstance(head, nn.Linear) else None


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states_MD: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        targets_M: Tensor,
        dtype: torch.dtype,
        with_gradients: bool,
    ) -> tuple[Tensor, Tensor]:
        sums = torch.float64 if dtype == torch.float64 else torch.float32
        with torch.autocast(states_MD.device.type, enabled=False):
            parts = _chunks(states_MD, weight_VD, bias_V, targets_M, dtype, sums, with_gradients)
        loss, correct, *gradients = parts
        ctx.of_bias = bias_V is not None
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(correct)
        return loss, correct

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor, grad_correct: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        grad_states_MD, grad_weight_VD, grad_bias_V = (grad_loss.to(g.dtype) * g for g in ctx.saved_tensors)
        return grad_states_MD, grad_weight_VD, grad_bias_V if ctx.of_bias else None, None, None, None


def _chunks(
    states_MD: Tensor,
    weight_VD: Tensor,
    bias_V: Tensor | None,
    targets_M: Tensor,
    dtype: torch.dtype,
    sums: torch.dtype,
    with_gradients: bool,
) -> tuple[Tensor, ...]:
    """Loss, correct predictions, and by option the gradients of states, weight and bias."""
    cast_MD, cast_VD = states_MD.to(dtype), weight_VD.to(dtype)
    cast_V = None if bias_V is None else bias_V.to(dtype)
    # A loss scaler acts on the loss, so it comes too late for gradients that are made here: in fp16 most would be zero.
    narrow = torch.float32 if dtype == torch.float16 else dtype
    back_MD, back_VD = cast_MD.to(narrow), cast_VD.to(narrow)
    loss = torch.zeros((), dtype=sums, device=states_MD.device)
    correct = torch.zeros((), dtype=torch.int64, device=states_MD.device)
    if with_gradients:
        grad_states_MD = torch.zeros_like(states_MD)
        grad_weight_VD = torch.zeros_like(weight_VD, dtype=sums)
        grad_bias_V = torch.zeros(len(weight_VD), dtype=sums, device=weight_VD.device)
    rows = max(_GRANULE, _CHUNK_LOGITS // len(weight_VD) // _GRANULE * _GRANULE)
    count = len(targets_M)
    for start in range(0, count, rows):
        targets_C = targets_M[start : start + rows]
        logits_CV = F.linear(cast_MD[start : start + rows], cast_VD, cast_V).to(sums)
        real_CV = logits_CV[: len(targets_C)]
        correct += (real_CV.argmax(dim=1) == targets_C).sum()
        log_sum_C = real_CV.logsumexp(dim=1)
        loss += (log_sum_C - real_CV.gather(1, targets_C.unsqueeze(1)).squeeze(1)).sum()
        if not with_gradients:
            continue
        real_CV.sub_(log_sum_C.unsqueeze(1)).exp_()  # in place from here on: the logits become their gradients
        real_CV[torch.arange(len(targets_C), device=targets_C.device), targets_C] -= 1.0
        logits_CV[len(targets_C) :] = 0.0
        logits_CV /= count
        grad_bias_V += logits_CV.sum(dim=0)
        grad_CV = logits_CV.to(narrow)
        grad_states_MD[start : start + rows] = grad_CV @ back_VD
        grad_weight_VD += grad_CV.t() @ back_MD[start : start + rows]
    if not with_gradients:
        return loss / count, correct
    grad_bias = grad_bias_V if bias_V is None else grad_bias_V.to(bias_V.dtype)
    return loss / count, correct, grad_states_MD, grad_weight_VD.to(weight_VD.dtype), grad_bias
