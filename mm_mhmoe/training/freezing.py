"""Parts of sparse layers that keep their weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

from mm_mhmoe.nn import MoE

Freezable = Literal["routers", "experts"]


def freeze(model: nn.Module, parts: Sequence[Freezable]) -> None:
    """Weights of these parts get no gradient and stay as they are, bit by bit.

    Args:
        parts: routers: what chooses experts. experts: they, and the shared ones. MH-MoE's multi-head and merge layers
            belong to neither.

    Raises:
        ValueError: the model has no sparse layer.
    """
    layers = [module for module in model.modules() if isinstance(module, MoE)]
    if parts and not layers:
        raise ValueError(f"optim.freeze={list(parts)}: the model has no sparse layers; leave it out")
    for layer in layers:
        if "routers" in parts:
            layer.router.requires_grad_(False)
        if "experts" in parts:
            layer.experts.requires_grad_(False)
            if layer.shared is not None:
                layer.shared.requires_grad_(False)
