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

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.source_N, self.row_N, self.first_S

    def sum(self, y_Nd: Tensor, weight_N: Tensor | None = None) -> Tensor:
        """The (weighted) sum of the rows of every (sub-)token, zero where it has none: (N, d) -> (S, d).

        Added up in fp32 (float64 stays). Not differentiable by itself; `weighted_sum` is.

        Args:
            weight_N: weights in the order of row_N.
        """
        scale_N = None if weight_N is None else weight_N.to(y_Nd.dtype)
        return F.embedding_bag(self.row_N, y_Nd, self.first_S, mode="sum", per_sample_weights=scale_N)


def sort_rows(routing: Routing) -> tuple[Rows, Tensor]:
    """The rows of all choices that the routing sends, and their weights in the order of row_N: (N,)."""
    target_SK = routing.target_SK
    tokens, top_k = target_SK.shape
    # What is not computed sorts behind the last expert and is cut off; small integers sort several times faster.
    small = torch.uint8 if routing.num_experts < 256 else torch.int16
    order = target_SK.flatten().to(small).argsort(stable=True)
    counts = choice_counts(target_SK, routing.num_experts).tolist()
    number = sum(counts)
    row_N = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    weight_N = routing.weights_SK.flatten()
    first_S = torch.arange(tokens, device=order.device) * top_k
    if number < len(order):
        sent_SK = target_SK < routing.num_experts
        number_S = sent_SK.sum(dim=1)
        sent = sent_SK.flatten()
        row_N, weight_N, first_S = row_N[sent], weight_N[sent], number_S.cumsum(0) - number_S
    return Rows(counts=counts, source_N=order[:number] // top_k, row_N=row_N, first_S=first_S), weight_N


class _WeightedSum(torch.autograd.Function):
    """Its own gradient: what autograd would derive takes several times as long."""

    @staticmethod
    def forward(ctx, y_Nd, weight_N, rows):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(y_Nd, weight_N, *rows.tensors)
        return rows.sum(y_Nd, weight_N)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_Sd):  # type: ignore[no-untyped-def]
        y_Nd, weight_N, source_N, row_N, first_S = ctx.saved_tensors
        # A bag of one row, with its weight: gathered and multiplied in one pass.
        scale_N = torch.empty_like(weight_N).scatter_(0, row_N, weight_N).to(grad_Sd.dtype)
        every_N = torch.arange(len(source_N), device=source_N.device)
        grad_Nd = F.embedding_bag(source_N, grad_Sd, every_N, mode="sum", per_sample_weights=scale_N)
        # As embedding_bag's own backward: gathered, multiplied and summed in one pass.
        grad_weight_N = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            grad_Sd, y_Nd, row_N, first_S, source_N.index_select(0, row_N), 0
        )
        return grad_Nd, grad_weight_N.to(weight_N.dtype), None


def weighted_sum(y_Nd: Tensor, weight_N: Tensor, rows: Rows) -> Tensor:
    """The weighted sum of every (sub-)token's rows, zero where it has none: (N, d) -> (S, d), added up in fp32.

    weight_N is in the order of `rows.row_N`, y_Nd sorted by expert.
    """
    return _WeightedSum.apply(y_Nd, weight_N, rows)  # type: ignore[no-untyped-call]
