"""What a healthy run looks like, and what to try when one does not."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping

from torch import Tensor

from mm_mhmoe.analysis.load import active_share, load_entropy
from mm_mhmoe.analysis.routing_sums import place_name
from mm_mhmoe.models.upcycling.layers import Place

SPIKE = 1.5
"""A loss of so many times the running median is a spike."""

LEAST_ENTROPY = 0.5
LEAST_USED = 0.5
USED = 0.1
"""An expert with less than this part of the even load does not count as used."""

LEAST_CODES = 0.5


class RunningMedian:
    """Median of the last `window` values; None before there are `least` of them."""

    def __init__(self, *, window: int = 100, least: int = 20) -> None:
        self.values: deque[float] = deque(maxlen=window)
        self.least = least

    def add(self, value: float) -> None:
        self.values.append(value)

    @property
    def value(self) -> float | None:
        return statistics.median(self.values) if len(self.values) >= self.least else None


def spike_advice(loss: float, median: float | None) -> str:
    """What to try when the loss jumps up; nothing otherwise."""
    if median is None or median <= 0 or loss <= SPIKE * median:
        return ""
    return (
        f"the loss is {loss:.3g}, {loss / median:.1f} times its median over the last steps ({median:.3g}). If it does "
        "not come back, go on from a checkpoint before it with a lower optim.lr, a lower optim.clip_norm or "
        "optim.beta2=0.95"
    )


def collapse_advice(counts: Mapping[Place, Tensor]) -> str:
    """What to try when routers send everything to a few experts; nothing otherwise.

    Args:
        counts: choices that each expert of a sparse layer, or of a pool of it, computed. One without any tells nothing.
    """
    found = {
        place: (active_share(counts_E, USED), load_entropy(counts_E))
        for place, counts_E in counts.items()
        if counts_E.any()
    }
    bad = {place: both for place, both in found.items() if both[0] < LEAST_USED or both[1] < LEAST_ENTROPY}
    if not bad:
        return ""
    layers = ", ".join(
        f"layer {place_name(place)} ({used:.0%}, entropy {entropy:.2f})" for place, (used, entropy) in bad.items()
    )
    return (
        f"routers use few of their experts: {layers}. Raise moe.balance_loss_weight or moe.z_loss_weight, lower "
        "optim.lr, lengthen optim.warmup_steps, or try moe.router=sigmoid_bias with moe.balance_loss_weight=0"
    )


def code_advice(used: float) -> str:
    """What to try when less than half of a visual tokenizer's codes are in use; nothing otherwise."""
    if used >= LEAST_CODES:
        return ""
    return (
        f"{100 * used:.0f}% of the codes are in use. Try a later codebook_start, visual_tokenizer.revive_below=0.02, "
        "larger batches, or fewer codes; docs/TOKENIZER.md has numbers."
    )
