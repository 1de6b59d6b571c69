"""Balance losses and loads: pure functions of a Routing, in fp32. Legend: S (sub-)tokens, E experts, K top-k."""

from __future__ import annotations

import torch
from torch import Tensor

from mm_mhmoe.nn.router import Routing


def expert_load(routing: Routing) -> Tensor:
    """Share of the assignments that each expert gets: (E,), sums to 1 (to 0 when every row is padding)."""
    counts_E = routing.kept(routing.experts_SK).flatten().bincount(minlength=routing.num_experts).float()
    return counts_E / counts_E.sum().clamp(min=1.0)


def load_balance_loss(routing: Routing) -> Tensor:
    """E sum_e f_e P_e: f_e the share of assignments, P_e the mean probability of expert e (Switch, arXiv 2101.03961,
    eq. 4; for k > 1 over all k choices). 1 at perfect balance; 0 when every row is padding."""
    prob_SE = routing.kept(routing.prob_SE)
    mean_E = prob_SE.sum(dim=0) / max(1, len(prob_SE))
    return routing.num_experts * (expert_load(routing) * mean_E).sum()


def router_z_loss(routing: Routing) -> Tensor:
    """Mean squared log-sum-exp of the logits (ST-MoE, arXiv 2202.08906, eq. 5); 0 when every row is padding."""
    logits_SE = routing.kept(routing.logits_SE)
    return torch.logsumexp(logits_SE, dim=1).square().sum() / max(1, len(logits_SE))
