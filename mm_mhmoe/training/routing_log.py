"""Statistics of routing in the log of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import lightning as L
import torch
from torch import Tensor

from mm_mhmoe.analysis.routing_stats import group_statistics, mean_statistics
from mm_mhmoe.analysis.routing_sums import RoutingSums, routing_sums
from mm_mhmoe.analysis.token_groups import MODALITIES, modality_groups
from mm_mhmoe.models.encoder import EncoderOutput
from mm_mhmoe.models.tasks import TaskModel
from mm_mhmoe.models.upcycling.layers import Place
from mm_mhmoe.training.health import collapse_advice
from mm_mhmoe.training.run_warnings import RunWarnings

THRESHOLDS = (0.1, 0.5, 0.9)


class RoutingLog(L.Callback):
    """Writes `routing/{image,text}/{statistic}` at the first step and then every so many: means over sparse layers, or
    over the pools of experts that see such tokens.

    The statistics are those of `group_statistics`, over the tokens of the step's batch on all ranks, hidden ones
    included. Nothing is written for a dense encoder. From the second row on, it warns of routers that have collapsed.

    Args:
        every: steps between two of them; 0: none are written.
    """

    def __init__(self, warn: RunWarnings, *, every: int) -> None:
        if every < 0:
            raise ValueError(f"run.routing_every={every} must be 0 or more")
        self.warn = warn
        self.every = every
        self._step = -1

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if not self.every or step == self._step:
            return  # switched off, or gradients are being accumulated
        if step != 1 and step % self.every:
            return
        output = outputs.get("output") if isinstance(outputs, dict) else None
        if not isinstance(output, EncoderOutput) or not output.routing:
            return  # the same on every rank: a collective call follows
        assert isinstance(pl_module.model, TaskModel)
        layers = modality_sums(
            output,
            sum_over_ranks=lambda sums: trainer.strategy.reduce(sums, reduce_op="sum"),  # type: ignore[arg-type,return-value]
        )
        values = routing_values(layers, experts_choose=pl_module.model.config.moe.router == "expert_choice")
        for logger in trainer.loggers:
            logger.log_metrics(values, step=step - 1)  # Lightning counts the first step as 0
        if step > 1:
            counts = {layer: sums.computed_GE.sum(dim=0) for layer, sums in layers.items()}
            self.warn.say(step, "router_collapse", collapse_advice(counts))


def modality_sums(
    output: EncoderOutput, *, sum_over_ranks: Callable[[Tensor], Tensor] = lambda sums: sums
) -> dict[Place, RoutingSums]:
    """Sums of every sparse layer or pool of experts, over pictures and over texts, of all ranks."""
    layers = routing_sums(output, modality_groups(output))
    parts = [getattr(sums, f.name) for sums in layers.values() for f in fields(sums)]
    # One collective call for everything; splitting it up again needs no more than the shapes.
    flat = sum_over_ranks(torch.cat([part.flatten() for part in parts])).cpu()
    summed = iter(part.view(old.shape) for part, old in zip(flat.split([p.numel() for p in parts]), parts, strict=True))
    return {layer: RoutingSums(**{f.name: next(summed) for f in fields(sums)}) for layer, sums in layers.items()}


def routing_values(layers: Mapping[Place, RoutingSums], *, experts_choose: bool) -> dict[str, float]:
    """`routing/{image,text}/{statistic}` of one step. A modality without tokens is left out."""
    return {
        f"routing/{modality}/{name}": value
        for group, modality in enumerate(MODALITIES)
        for name, value in mean_statistics(
            [group_statistics(sums, group, THRESHOLDS, experts_choose=experts_choose) for sums in layers.values()]
        ).items()
    }
