"""The optimiser with its schedule and parameter groups."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, get_args

import torch
from timm.optim import create_optimizer_v2, get_optimizer_info, list_optimizers
from torch import nn

from mm_mhmoe.training.freezing import Freezable

Schedule = Literal["cosine", "linear", "constant"]


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimiser. Defaults are BEiT-3's pretraining (arXiv 2208.10442).

    Args:
        name: of the optimiser, as timm names them (timm.optim.list_optimizers): adamw, lamb, lion, adafactor, ...
        lr: peak learning rate.
        schedule: of the learning rate after warm-up: cosine; linear decay (the language models of arXiv 2404.15045); or
            constant.
        warmup_steps: steps of linear warm-up from zero.
        min_lr_ratio: cosine and linear end at this part of lr.
        weight_decay: on matrices only (not on biases, norms, positions and tokens).
        beta1: decay of the first moment, of optimisers that have it.
        beta2: decay of the second moment, of optimisers that have it.
        eps: of optimisers that have it.
        ema_decay: the finished model has the exponential moving average of the weights with this decay a step (.9999);
            0: the weights of the last step.
        clip_norm: gradients are clipped to this norm; 0: never.
        layer_decay: the learning rate of block l of L is lr * layer_decay^(L - l), that of heads is lr; 1: all equal.
        head_lr_scale: factor on the learning rate of the heads.
        expert_lr_scale: factor on the learning rate of experts, on top of that of their block.
        freeze: parts of sparse layers that keep their weights: routers (a balancing bias too), experts (shared ones
            too), or both.
        router_losses: whether the routers' balance and z-loss are minimised; they are logged in any case.
    """

    name: str = "adamw"
    lr: float = 1e-3
    schedule: Schedule = "cosine"
    warmup_steps: int = 10_000
    min_lr_ratio: float = 0.0
    weight_decay: float = 0.05
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-6
    clip_norm: float = 3.0
    ema_decay: float = 0.0
    layer_decay: float = 1.0
    head_lr_scale: float = 1.0
    expert_lr_scale: float = 1.0
    freeze: tuple[Freezable, ...] = ()
    router_losses: bool = True

    def __post_init__(self) -> None:
        known = [str(name) for name in list_optimizers()]
        if self.name not in known:
            near = ", ".join(get_close_matches(self.name, known)) or "adamw"
            raise ValueError(f"optim.name={self.name!r} is no optimiser of timm; near are {near}")
        if self.schedule not in get_args(Schedule):
            raise ValueError(f"optim.schedule={self.schedule!r} is not one of {', '.join(get_args(Schedule))}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"optim.ema_decay={self.ema_decay} must lie in [0, 1)")
        if self.lr <= 0:
            raise ValueError(f"optim.lr={self.lr} must be positive")
        if self.warmup_steps < 0:
            raise ValueError(f"optim.warmup_steps={self.warmup_steps} must not be negative")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"optim.layer_decay={self.layer_decay} must lie in (0, 1]")
        if self.expert_lr_scale <= 0:
            raise ValueError(
                f"optim.expert_lr_scale={self.expert_lr_scale} must be positive; optim.freeze stops experts"
            )


def lr_factor(step: int, schedule: Schedule, *, warmup: int, total: int, floor: float) -> float:
    """Factor on the learning rate at `step` (from 0)."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    shape = {"cosine": 0.5 * (1.0 + math.cos(math.pi * progress)), "linear": 1.0 - progress, "constant": 1.0}
    return floor + (1.0 - floor) * shape[schedule]


# Experts stack their biases as b1_EF and b2_Ed, which have two dimensions.
_NOT_DECAYED = re.compile(r"position|token|bias|norm|\.b[12]_E")


_EXPERTS = re.compile(r"\.(experts|shared)\.")


def build_optimizer(model: nn.Module, config: OptimConfig, *, steps: int, depth: int) -> dict[str, Any]:
    """What Lightning's `configure_optimizers` returns: the optimiser, and its schedule stepped once a step.

    Args:
        steps: length of the run; the schedule ends there.
        depth: number of blocks of the encoder, for layer_decay.
    """
    groups: dict[tuple[bool, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decayed = parameter.ndim >= 2 and not _NOT_DECAYED.search(name)
        scale = _lr_scale(name, config, depth)
        group = groups.setdefault(
            (decayed, scale),
            {"params": [], "lr": config.lr * scale, "weight_decay": config.weight_decay if decayed else 0.0},
        )
        group["params"].append(parameter)
    known = get_optimizer_info(config.name)
    options: dict[str, Any] = {"betas": (config.beta1, config.beta2)} if known.has_betas else {}
    options |= {"eps": config.eps} if known.has_eps else {}
    optimizer = create_optimizer_v2(list(groups.values()), opt=config.name, lr=config.lr, **options)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: lr_factor(
            step, config.schedule, warmup=config.warmup_steps, total=steps, floor=config.min_lr_ratio
        ),
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _lr_scale(name: str, config: OptimConfig, depth: int) -> float:
    if "encoder." not in name:
        return config.head_lr_scale
    block = re.search(r"encoder\.blocks\.(\d+)\.", name)
    if block:
        scale = config.expert_lr_scale if _EXPERTS.search(name) else 1.0
        return scale * config.layer_decay ** (depth - int(block.group(1)))
    # Relative positions that all blocks share count to the last one, as in BEiT.
    behind = re.search(r"encoder\.(norm|relative_positions)\.", name)
    return 1.0 if behind else config.layer_decay ** (depth + 1)
