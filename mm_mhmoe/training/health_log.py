"""The health of a run, step by step."""

from __future__ import annotations

from typing import Any

import lightning as L

from mm_mhmoe.training.gradient_guard import GradientGuard
from mm_mhmoe.training.health import RunningMedian, code_advice, spike_advice
from mm_mhmoe.training.run_warnings import RunWarnings


class HealthLog(L.Callback):
    """Logs the running median of the gradient's norm, and warns of loss spikes and of unused codes.

    Skipped steps do not count. What is warned of is the first process's own batch.
    """

    def __init__(self, guard: GradientGuard, warn: RunWarnings) -> None:
        self.guard = guard
        self.warn = warn
        self.losses = RunningMedian()
        self.norms = RunningMedian(least=1)
        self._step = -1

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if trainer.global_step == self._step or self.guard.skipped:
            return
        self.norms.add(self.guard.norm)
        pl_module.log("train/grad_norm_median", self.norms.value or 0.0)
        logged = trainer.callback_metrics
        loss = float(logged["train/loss"])
        self.warn.say(trainer.global_step, "loss_spike", spike_advice(loss, self.losses.value))
        self.losses.add(loss)
        if "train/codes_used" in logged:
            self.warn.say(trainer.global_step, "unused_codes", code_advice(float(logged["train/codes_used"])))

    def state_dict(self) -> dict[str, Any]:
        return {"losses": list(self.losses.values), "norms": list(self.norms.values)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.losses.values.extend(state_dict["losses"])
        self.norms.values.extend(state_dict["norms"])
