"""A sparse mixture of experts. Legend: S (sub-)tokens, d their width."""

from __future__ import annotations

from torch import Tensor, nn

from mm_mhmoe.nn.dispatch import DroplessDispatcher
from mm_mhmoe.nn.experts import Experts
from mm_mhmoe.nn.router import Routing, TopKRouter


class MoE(nn.Module):
    """Router, dispatcher, experts: each is its own object and can be replaced.

    Args:
        router: `(x_Sd, valid_S) -> Routing`.
        experts: `(x_Nd sorted by expert, counts) -> y_Nd`.
        dispatcher: `dispatch` and `combine`; None: every choice is computed.
    """

    def __init__(self, router: TopKRouter, experts: Experts, dispatcher: DroplessDispatcher | None = None) -> None:
        super().__init__()
        self.router = router
        self.experts = experts
        self.dispatcher = dispatcher or DroplessDispatcher()

    def forward(self, x_Sd: Tensor, valid_S: Tensor | None = None) -> tuple[Tensor, Routing]:
        """(S, d) -> (S, d) and the routing. Rows where valid_S is False come out as zero."""
        routing = self.router(x_Sd, valid_S)
        rows_Nd, plan = self.dispatcher.dispatch(x_Sd, routing)
        return self.dispatcher.combine(self.experts(rows_Nd, plan.counts), plan), routing
