"""What every training module shares: the optimiser, the log of a step, the losses of its routers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, TypedDict

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor, nn

from mm_mhmoe.models.checkpoints import describe
from mm_mhmoe.models.encoder import Encoder, EncoderOutput
from mm_mhmoe.models.tasks import TaskModel
from mm_mhmoe.nn import SigmoidRouter, expert_load
from mm_mhmoe.objectives.sparse import auxiliary_losses, weighted_auxiliary
from mm_mhmoe.training.gradient_guard import StepSkipped
from mm_mhmoe.training.optim import OptimConfig, build_optimizer


class StepResult(TypedDict):
    """What a training step gives to Lightning, which hands it on to callbacks.

    loss:   to be minimised.
    output: the encoder's, without states and out of the graph: DDP looks for parameters behind every tensor here.
    """

    loss: Tensor
    output: EncoderOutput


class RunModule(L.LightningModule):
    """What every run shares: the optimiser, and the log of speed and expert load."""

    model: nn.Module

    def __init__(self, optim: OptimConfig, *, steps: int, depth: int) -> None:
        super().__init__()
        self.optim_config = optim
        self.steps = steps
        self.depth = depth
        self._clock: float | None = None
        self._routed: tuple[Encoder, EncoderOutput] | None = None

    def configure_optimizers(self) -> Any:
        return build_optimizer(self, self.optim_config, steps=self.steps, depth=self.depth)

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        try:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        except StepSkipped:
            self.on_step_skipped()
            scaler = getattr(self.trainer.precision_plugin, "scaler", None)
            if scaler is not None:
                scaler.update()  # the scaler expects it after every unscaled gradient

    def on_step_skipped(self) -> None:
        """Called when a step changed nothing because its loss or gradient was not finite."""

    def on_after_backward(self) -> None:
        # Not before: what the backward pass computes again (blocks, chunks) must choose the same experts.
        if self._routed is not None and "routers" not in self.optim_config.freeze:
            update_router_biases(*self._routed)
        self._routed = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["model_description"] = json.dumps(describe(self.model))
        checkpoint["optimizer_name"] = self.optim_config.name

    def log_step(self, values: dict[str, Any], *, shown: tuple[str, ...], tokens: int | Tensor) -> None:
        """Logs `train/...` values; `shown` ones also in the progress bar, with this process's tokens per
        second since the last batch."""
        now = time.monotonic()
        for name, value in values.items():
            self.log(f"train/{name}", value, prog_bar=name in shown)
        if self._clock is not None:
            self.log("train/tokens_per_s", tokens / (now - self._clock), prog_bar=True)
        self._clock = now


def finish_step(
    module: RunModule,
    model: TaskModel,
    loss: Tensor,
    output: EncoderOutput,
    values: dict[str, Tensor],
    *,
    shown: tuple[str, ...],
) -> StepResult:
    """Adds the routers' losses to the task's loss and logs the step. Routers' biases change after the backward pass."""
    auxiliary = auxiliary_losses(output.routing, model.config.moe, sum_over_ranks)
    total = loss + (weighted_auxiliary(auxiliary, model.config.moe) if module.optim_config.router_losses else 0.0)
    logged = {"loss": total, **values, **auxiliary, **sparse_metrics(output)}
    module.log_step(logged, shown=(*shown, "expert_load"), tokens=output.valid_T.sum())
    routed = output.routing_only()
    module._routed = (model.encoder, routed)
    return {"loss": total, "output": routed}


def sparse_metrics(output: EncoderOutput) -> dict[str, Tensor]:
    """Largest share of an expert over the uniform share, averaged over layers: 1 is perfect balance."""
    if not output.routing:
        return {}
    pools = [pool for layer in output.routing for pool in layer.routing.each_pool]
    loads = torch.stack([expert_load(pool).max() * pool.num_experts for pool in pools])
    return {"expert_load": loads.mean()}


def update_router_biases(encoder: Encoder, output: EncoderOutput) -> None:
    """Lets the routers that balance by a bias take a step towards even loads, the same on every rank."""
    for layer, routing in output.routing:
        for module in encoder.blocks[layer].modules():
            if isinstance(module, SigmoidRouter):
                module.update_bias(routing, sum_over_ranks)


def sum_over_ranks(value: Tensor) -> Tensor:
    if dist.is_initialized():
        dist.all_reduce(value)
    return value
