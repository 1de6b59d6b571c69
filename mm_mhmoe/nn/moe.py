"""A sparse mixture of experts. Legend: S (sub-)tokens, d their width."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mm_mhmoe.nn.dispatch import DroplessDispatcher
from mm_mhmoe.nn.experts import Experts
from mm_mhmoe.nn.routing import Routing


class MoE(nn.Module):
    """Router, capacity, dispatcher, experts: each is its own object and can be replaced.

    Args:
        router: `(x_Sd, valid_S) -> Routing`.
        experts: `(x_Sd, Rows) -> y_Nd`, one output for every row, sorted by expert.
        dispatcher: `dispatch` and `combine`; None: every choice that the routing sends is computed here.
        capacity: `Routing -> Routing`, with choices dropped that an expert has no room for; None: nothing is dropped.
        shared: an expert that every (sub-)token goes through as well, `x_Sd -> y_Sd` (DeepSeekMoE, arXiv 2401.06066).
    """

    def __init__(
        self,
        router: nn.Module,
        experts: Experts,
        dispatcher: DroplessDispatcher | None = None,
        *,
        capacity: Callable[[Routing], Routing] | None = None,
        shared: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.router = router
        self.experts = experts
        self.dispatcher = dispatcher or DroplessDispatcher()
        self.capacity = capacity
        self.shared = shared

    def forward(self, x_Sd: Tensor, valid_S: Tensor | None = None) -> tuple[Tensor, Routing]:
        """(S, d) -> (S, d) and the routing. Rows where valid_S is False come out as zero."""
        y_Sd, routing = self._compute_choices(x_Sd, self.router(x_Sd, valid_S))
        if self.shared is not None:
            shared_Sd = self.shared(x_Sd)
            y_Sd = y_Sd + (shared_Sd if valid_S is None else shared_Sd.masked_fill(~valid_S.unsqueeze(1), 0.0))
        return y_Sd, routing

    # How many rows an expert gets is a number that only running tells. Traced by torch.compile, this would be cut at
    # every count, have the loop over experts unrolled, and be compiled anew whenever another expert is idle.
    @torch.compiler.disable(reason="the number of rows of an expert depends on data")
    def _compute_choices(self, x_Sd: Tensor, routing: Routing) -> tuple[Tensor, Routing]:
        if self.capacity is not None:
            routing = self.capacity(routing)
        here_Sd, plan = self.dispatcher.dispatch(x_Sd, routing)
        return self.dispatcher.combine(self.experts(here_Sd, plan.rows), plan), routing
