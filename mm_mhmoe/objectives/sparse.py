"""The auxiliary losses of all sparse layers together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mm_mhmoe.config import MoEConfig
from mm_mhmoe.models.encoder import LayerRouting
from mm_mhmoe.nn import load_balance_loss, router_z_loss


def auxiliary_losses(
    routing: Sequence[LayerRouting], config: MoEConfig, all_reduce: Callable[[Tensor], Tensor] | None = None
) -> dict[str, Tensor]:
    """Mean over layers of the load-balance loss and of the router z-loss; empty for a dense encoder.

    Args:
        routing: of every sparse layer.
        config: says which load-balance loss (balance_scope, balance_choices).
        all_reduce: sums a tensor over ranks; called for balance_scope=global only. None: there is one rank.
    """
    if not routing:
        return {}
    options: dict[str, Any] = {
        "first_choice": config.balance_choices == "first",
        "all_reduce": all_reduce if config.balance_scope == "global" else None,
    }
    pools = [pool for layer in routing for pool in layer.routing.each_pool]
    return {
        "balance": torch.stack([load_balance_loss(pool, **options) for pool in pools]).mean(),
        "router_z": torch.stack([router_z_loss(pool) for pool in pools]).mean(),
    }


def weighted_auxiliary(losses: dict[str, Tensor], config: MoEConfig) -> Tensor | float:
    """What the auxiliary losses add to a training loss."""
    if not losses:
        return 0.0
    return config.balance_loss_weight * losses["balance"] + config.z_loss_weight * losses["router_z"]
