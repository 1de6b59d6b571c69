"""Bringing (sub-)tokens to their experts and the outputs back. Legend: S (sub-)tokens, d their width, N rows."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from mm_mhmoe.nn.routing import Routing
from mm_mhmoe.nn.rows import Rows, sort_rows, weighted_sum


class DispatchPlan(NamedTuple):
    """What the experts of this process compute, and how the outputs come back.

    rows:     how the rows belong to the experts here and to the (sub-)tokens they are gathered from.
    weight_N: the weights of the rows' outputs, in the order of `rows.row_N`.
    """

    rows: Rows
    weight_N: Tensor


class DroplessDispatcher:
    """Every choice that the routing sends is computed, and computed here. Padding is never sent."""

    def dispatch(self, x_Sd: Tensor, routing: Routing) -> tuple[Tensor, DispatchPlan]:
        """The (sub-)tokens that the experts of this process gather their rows from, and the plan."""
        return x_Sd, DispatchPlan(*sort_rows(routing))

    def combine(self, y_Nd: Tensor, plan: DispatchPlan) -> Tensor:
        """The weighted sum of every (sub-)token's outputs: (N, d) -> (S, d). Padding gets zero."""
        return weighted_sum(y_Nd, plan.weight_N, plan.rows)
