"""Balance losses and loads: pure functions of a Routing, in fp32. Legend: S (sub-)tokens, E experts, K top-k."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mm_mhmoe.nn.routing import Routing, choice_counts


def expert_counts(routing: Routing) -> Tensor:
    """How many (sub-)tokens each expert computes: (E,), as floats. Padding and dropped choices do not count."""
    return choice_counts(routing.target_SK, routing.num_experts).float()


def expert_load(routing: Routing) -> Tensor:
    """Share of the computed choices that each expert has: (E,), sums to 1 (to 0 when every row is padding)."""
    counts_E = expert_counts(routing)
    return counts_E / counts_E.sum().clamp(min=1.0)


def load_balance_loss(
    routing: Routing, *, first_choice: bool = False, all_reduce: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """E sum_e f_e P_e: f_e the share of choices, P_e the mean probability of expert e (Switch, arXiv 2101.03961,
    eq. 4). 1 at perfect balance; 0 when every row is padding.

    Choices count before a capacity drops any of them: a full expert must become less attractive.

    Args:
        first_choice: f_e counts first choices only (GShard, arXiv 2006.16668, algorithm 1); otherwise all k.
        all_reduce: sums a tensor over ranks. f_e is then that of the global batch, which lets one rank's data prefer
            some experts (arXiv 2501.11873), and P_e this rank's part of the global mean: what the ranks get, averaged
            over them as data parallelism averages gradients, is the loss of the global batch. None: this rank alone.
    """
    prob_SE, experts_SK = routing.kept(routing.prob_SE), routing.kept(routing.experts_SK)
    if first_choice:
        experts_SK = experts_SK[:, :1]
    counts_E = choice_counts(experts_SK, routing.num_experts).to(prob_SE.dtype)
    rows: Tensor | int = max(1, len(prob_SE))
    if all_reduce is not None:
        sums = all_reduce(torch.cat([counts_E, counts_E.new_tensor([len(prob_SE), 1])]))
        counts_E, rows = sums[:-2], sums[-2].clamp(min=1.0) / sums[-1]  # the mean over ranks
    share_E = counts_E / counts_E.sum().clamp(min=1.0)
    mean_E = prob_SE.sum(dim=0) / rows
    return routing.num_experts * (share_E * mean_E).sum()


def router_z_loss(routing: Routing) -> Tensor:
    """Mean squared log-sum-exp of the logits (ST-MoE, arXiv 2202.08906, eq. 5); 0 when every row is padding."""
    logits_SE = routing.kept(routing.logits_SE)
    return torch.logsumexp(logits_SE, dim=1).square().sum() / max(1, len(logits_SE))
