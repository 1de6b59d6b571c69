"""Bringing (sub-)tokens to their experts and the outputs back.

Legend: S (sub-)tokens, d their width, E experts, K top-k, N rows sent to experts (K for each valid sub-token).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mm_mhmoe.nn.routing import Routing, choice_counts


class DispatchPlan(NamedTuple):
    """How the rows were sorted.

    counts:   rows of each expert.
    source_N: the (sub-)token of each row.
    weight_N: the weight of each row's output.
    tokens:   S.
    """

    counts: list[int]
    source_N: Tensor
    weight_N: Tensor
    tokens: int


class DroplessDispatcher:
    """Every chosen pair of (sub-)token and expert is computed; no capacity, nothing dropped. Padding is never sent."""

    def dispatch(self, x_Sd: Tensor, routing: Routing) -> tuple[Tensor, DispatchPlan]:
        """Rows (N, d) sorted by expert, and the plan to bring their outputs back."""
        top_k = routing.experts_SK.shape[1]
        # What is not computed sorts behind the last expert and is cut off; small integers sort several times faster.
        target_SK = routing.target_SK
        small = torch.uint8 if routing.num_experts < 256 else torch.int16
        order = target_SK.flatten().to(small).argsort(stable=True)
        counts = choice_counts(target_SK, routing.num_experts).tolist()
        order_N = order[: sum(counts)]
        source_N = order_N // top_k
        plan = DispatchPlan(counts, source_N, routing.weights_SK.flatten()[order_N], len(x_Sd))
        return x_Sd.index_select(0, source_N), plan

    def combine(self, y_Nd: Tensor, plan: DispatchPlan) -> Tensor:
        """The weighted sum of every (sub-)token's outputs, added up in fp32: (N, d) -> (S, d). Padding gets zero."""
        precision = torch.promote_types(y_Nd.dtype, torch.float32)
        weighted_Nd = y_Nd.to(precision) * plan.weight_N.unsqueeze(1)
        out_Sd = weighted_Nd.new_zeros(plan.tokens, y_Nd.shape[1]).index_add(0, plan.source_N, weighted_Nd)
        return out_Sd.to(y_Nd.dtype)
