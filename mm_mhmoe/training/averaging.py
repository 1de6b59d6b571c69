"""Averaged weights, by Lightning."""

from __future__ import annotations

import lightning as L
from lightning.pytorch.callbacks import EMAWeightAveraging


def averaging(decay: float) -> list[L.Callback]:
    """What keeps an exponential moving average of the weights, from the first step on; nothing for a decay of 0.

    A checkpoint has the average as its weights, and those of the last step beside it to go on from; so whatever is made
    of a checkpoint or of a finished run is the average. Buffers are those of the last step.
    """
    return [EMAWeightAveraging(decay=decay, use_buffers=False)] if decay else []
