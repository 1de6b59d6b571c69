"""A limit on how many (sub-)tokens an expert computes.

Legend: S (sub-)tokens, E experts, K top-k, N choices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from mm_mhmoe.nn.routing import Routing

DropPolicy = Literal["position", "priority"]


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """Drops the choices that an expert has no room for; what is dropped adds nothing to its (sub-)token's output.

    Every expert has room for ceil(factor K S / E) choices, S without padding. First choices come before second ones;
    within them, policy says who comes first: position, the earlier (sub-)token (GShard, arXiv 2006.16668, algorithm 1);
    priority, the one with the larger probability of its first choice (V-MoE, arXiv 2106.05974, section 4.1), so that
    what is dropped matters least.
    """

    factor: float
    policy: DropPolicy = "position"

    def __post_init__(self) -> None:
        if self.factor <= 0:
            raise ValueError(f"capacity factor={self.factor} must be positive; leave the capacity out to drop nothing")
        if self.policy not in ("position", "priority"):
            raise ValueError(f"capacity policy={self.policy!r} is not one of position, priority")

    def room(self, routing: Routing) -> int:
        """Choices that one expert has room for."""
        real = len(routing.kept(routing.experts_SK))
        return math.ceil(self.factor * routing.experts_SK.shape[1] * real / routing.num_experts)

    @torch.no_grad()
    def __call__(self, routing: Routing) -> Routing:
        target_SK = routing.target_SK
        tokens, top_k = target_SK.shape
        order_S = torch.arange(tokens, device=target_SK.device)
        if self.policy == "priority":
            first_S = routing.prob_SE.gather(1, routing.experts_SK[:, :1]).squeeze(1)
            order_S = first_S.argsort(descending=True, stable=True)
        queue_N = target_SK[order_S].t().flatten()  # all first choices, then all second ones
        fits_N = place_in_line(queue_N) < self.room(routing)
        fits_SK = torch.empty_like(target_SK, dtype=torch.bool)
        fits_SK[order_S] = fits_N.view(top_k, tokens).t()
        sent_SK = fits_SK if routing.sent_SK is None else fits_SK & routing.sent_SK
        return replace(routing, sent_SK=sent_SK)


def place_in_line(expert_N: Tensor) -> Tensor:
    """How many earlier entries have the same value: (N,) -> (N,)."""
    order_N = expert_N.argsort(stable=True)
    counts_E = expert_N.bincount()
    start_E = counts_E.cumsum(0) - counts_E
    place_N = torch.empty_like(expert_N)
    place_N[order_N] = torch.arange(len(expert_N), device=expert_N.device) - start_E[expert_N[order_N]]
    return place_N
