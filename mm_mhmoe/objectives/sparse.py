"""The auxiliary losses of all sparse layers together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mm_mhmoe.config import MoEConfig
from mm_mhmoe.models.encoder import LayerRouting
from mm_mhmoe.nn import load_balance_loss, router_z_loss


def auxiliary_losses(routing: Sequence[LayerRouting]) -> dict[str, Tensor]:
    """Mean over layers of the load-balance loss and of the router z-loss; empty for a dense encoder."""
    if not routing:
        return {}
    return {
        "balance": torch.stack([load_balance_loss(layer.routing) for layer in routing]).mean(),
        "router_z": torch.stack([router_z_loss(layer.routing) for layer in routing]).mean(),
    }


def weighted_auxiliary(losses: dict[str, Tensor], config: MoEConfig) -> Tensor | float:
    """What the auxiliary losses add to a training loss."""
    if not losses:
        return 0.0
    return config.balance_loss_weight * losses["balance"] + config.z_loss_weight * losses["router_z"]
