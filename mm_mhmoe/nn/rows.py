"""The rows that experts work on: one for every computed choice, sorted by expert.

Legend: S (sub-)tokens, d their width, E experts, K top-k, N rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mm_mhmoe.nn.routing import Routing, choice_counts


@dataclass(frozen=True)
class Rows:
    """How rows belong to experts and to (sub-)tokens.

    counts:   rows of each expert.
    source_N: the (sub-)token of each row.
    row_N:    the rows in the order of their (sub-)tokens.
    first_S:  where the rows of each (sub-)token begin in row_N.
    """

    counts: list[int]
    source_N: Tensor
    row_N: Tensor
    first_S: Tensor

    def sum(self, y_Nd: Tensor, weight_N: Tensor | None = None) -> Tensor:
        """The (weighted) sum of the rows of every (sub-)token, zero where it has none: (N, d) -> (S, d).

        Added up in fp32 (float64 stays). Not differentiable by itself; `weighted_sum` is.
        """
        scale_N = None if weight_N is None else weight_N[self.row_N].to(y_Nd.dtype)
        return F.embedding_bag(self.row_N, y_Nd, self.first_S, mode="sum", per_sample_weights=scale_N)


def sort_rows(routing: Routing) -> tuple[Rows, Tensor]:
    """The rows of all choices that the routing sends, and the weight of each: (N,)."""
    target_SK = routing.target_SK
    top_k = target_SK.shape[1]
    # What is not computed sorts behind the last expert and is cut off; small integers sort several times faster.
    small = torch.uint8 if routing.num_experts < 256 else torch.int16
    order = target_SK.flatten().to(small).argsort(stable=True)
    counts = choice_counts(target_SK, routing.num_experts).tolist()
    order_N = order[: sum(counts)]
    row_SK = torch.empty_like(order)
    row_SK[order] = torch.arange(len(order), device=order.device)
    sent_SK = target_SK < routing.num_experts
    number_S = sent_SK.sum(dim=1)
    rows = Rows(
        counts=counts,
        source_N=order_N // top_k,
        row_N=row_SK[sent_SK.flatten()],
        first_S=number_S.cumsum(0) - number_S,
    )
    return rows, routing.weights_SK.flatten()[order_N]


class _WeightedSum(torch.autograd.Function):
    """Its own gradient, because gathering is several times faster than what autograd would derive."""

    @staticmethod
    def forward(ctx, y_Nd, weight_N, rows):  # type: ignore[no-untyped-def]
        ctx.rows = rows
        ctx.save_for_backward(y_Nd, weight_N)
        return rows.sum(y_Nd, weight_N)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_Sd):  # type: ignore[no-untyped-def]
        y_Nd, weight_N = ctx.saved_tensors
        grad_Nd = grad_Sd.index_select(0, ctx.rows.source_N)
        grad_weight_N = (grad_Nd * y_Nd).sum(dim=1, dtype=weight_N.dtype)
        return grad_Nd * weight_N.unsqueeze(1).to(grad_Nd.dtype), grad_weight_N, None


def weighted_sum(y_Nd: Tensor, weight_N: Tensor, rows: Rows) -> Tensor:
    """The weighted sum of every (sub-)token's rows, zero where it has none: (N, d) -> (S, d), added up in fp32."""
    return _WeightedSum.apply(y_Nd, weight_N, rows)  # type: ignore[no-untyped-call]
