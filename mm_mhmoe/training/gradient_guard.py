"""Between the gradient and the optimiser: the gradient's norm, clipping, and steps that are better not taken."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.training.interrupted import RunFailed
from mm_mhmoe.training.run_warnings import RunWarnings

SKIPPED = "skipped_steps.jsonl"


class StepSkipped(Exception):
    """Leaves an optimiser's step before it changes anything; RunModule catches it."""


class GradientGuard(L.Callback):
    """Logs the gradient's norm, clips by it, and skips a step whose loss or gradient is not finite.

    All ranks skip together. A skipped step counts as a step: the schedule and the data go on. Weights, the optimiser's
    state and the model's buffers (codebook, router biases) stay as they were before it. Each rank writes a line with
    its losses and the keys of its samples into the file; on the terminal the first one speaks. Under fp16 a gradient
    that overflows while the loss is finite is what the loss scale is for: the scaler skips that step itself, and it
    counts as no failure. Once the scale has come down to 1 it does count: such a gradient is not finite without a scale
    either, and the scale would go on falling for ever.

    Args:
        out: directory of the run, for skipped_steps.jsonl.
        clip_norm: gradients are clipped to this norm; 0: never.
        max_skipped: steps in a row that may be skipped; the next one that would have to be ends the run.
    """

    def __init__(self, out: Path, warn: RunWarnings, *, clip_norm: float, max_skipped: int) -> None:
        self.out = out
        self.warn = warn
        self.clip_norm = clip_norm
        self.max_skipped = max_skipped
        self.norm = math.nan
        self.skipped = False
        """Whether the last step was skipped, by this or by the loss scale's own rule."""
        self._in_a_row = self._total = 0
        self._losses: list[Tensor] = []
        self._keys: list[dict[str, list[str]]] = []
        self._buffers: list[Tensor] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._losses, self._keys = [], []
            self._buffers = [buffer.clone() for buffer in pl_module.buffers()]
        self._keys.append(sample_keys(batch))

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        self._losses.append(loss.detach().float())

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        scale = 1.0 if scaler is None else scaler.get_scale()
        *losses, self.norm = torch.stack([*self._losses, norm.float()]).tolist()
        losses = [loss / (scale or 1.0) for loss in losses]  # they were multiplied for the backward pass
        pl_module.log("train/grad_norm", norm)
        failed = not all(map(math.isfinite, losses)) or not (math.isfinite(self.norm) or scale > 1.0)
        if trainer.world_size > 1:
            flag = torch.tensor(float(failed), device=pl_module.device)
            failed = bool(trainer.strategy.reduce(flag, reduce_op="sum") > 0)
        self.skipped = failed or not math.isfinite(self.norm)
        if failed:
            self._skip(trainer, pl_module, losses)
        self._in_a_row = 0
        if self.clip_norm:
            clip_grads_with_norm_(parameters, self.clip_norm, norm)

    def _skip(self, trainer: L.Trainer, pl_module: L.LightningModule, losses: list[float]) -> None:
        for buffer, before in zip(pl_module.buffers(), self._buffers, strict=True):
            buffer.copy_(before)
        self._in_a_row += 1
        self._total += 1
        step = trainer.global_step + 1
        self._write(step, trainer.global_rank, losses)
        numbers = f"loss {sum(losses):g}, gradient norm {self.norm:g}"
        if self._in_a_row > self.max_skipped:
            raise RunFailed(
                f"step {step} has a loss or gradient that is not finite ({numbers}), and run.max_skipped="
                f"{self.max_skipped} steps right before it had to be skipped; {self.out / SKIPPED} lists their "
                "samples. The weights are those before these steps. Lower optim.lr or optim.clip_norm, lengthen "
                f"optim.warmup_steps, or try run.precision=32-true: anew, or from one of {self.out / 'checkpoints'}, "
                "if the loss was still good there, with --out NEW --resume CHECKPOINT"
            )
        self.warn.say(
            step,
            "skipped",
            f"skipped, not finite ({numbers}); {self._total} skipped so far, see {self.out / SKIPPED}. If it goes on, "
            "lower optim.lr or look at those samples",
        )
        raise StepSkipped

    def _write(self, step: int, rank: int, losses: list[float]) -> None:
        batches = [
            {"loss": repr(loss), "keys": keys}  # NaN is no JSON
            for loss, keys in zip(losses, self._keys, strict=True)
        ]
        line = {"step": step, "rank": rank, "gradient_norm": repr(self.norm), "batches": batches}
        self.out.mkdir(parents=True, exist_ok=True)
        # One write at the end of the file: lines of several ranks do not mix.
        descriptor = os.open(self.out / SKIPPED, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, json.dumps(line).encode() + b"\n")
        finally:
            os.close(descriptor)

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.skipped, "in_a_row": self._in_a_row, "total": self._total}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped = state_dict["skipped"]
        self._in_a_row, self._total = state_dict["in_a_row"], state_dict["total"]


def sample_keys(batch: Any) -> dict[str, list[str]]:
    """The keys of a batch's samples, by stream."""
    streams = {"batch": batch} if isinstance(batch, ImageTextBatch) else vars(batch)
    return {name: list(stream.keys) for name, stream in streams.items() if isinstance(stream, ImageTextBatch)}
