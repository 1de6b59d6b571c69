"""Averaged weights, by Lightning."""

from __future__ import annotations

import lightning as L
from lightning.pytorch.callbacks import EMAWeightAveraging

from mm_mhmoe.training.gradient_guard import GradientGuard


class _Averaging(EMAWeightAveraging):
    """Lightning's, except that a skipped step does not move the average."""

    def __init__(self, guard: GradientGuard, decay: float) -> None:
        super().__init__(decay=decay, use_buffers=False)
        self.guard = guard

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return super().should_update(step_idx, epoch_idx) and not self.guard.skipped


def averaging(decay: float, guard: GradientGuard) -> list[L.Callback]:
    """What keeps an exponential moving average of the weights, from the first step on; nothing for a decay of 0.

    A checkpoint has the average as its weights, and those of the last step beside it to go on from; so whatever is made
    of a checkpoint or of a finished run is the average. Buffers are those of the last step.
    """
    return [_Averaging(guard, decay)] if decay else []
