"""How evenly the work is spread over the experts. Legend: E experts.

Each takes the choices that every expert computed, and is nan when there are none.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def active_share(counts_E: Tensor, threshold: float) -> float:
    """Share of the experts with more than `threshold` times the uniform load.

    arXiv 2404.15045 reports an "expert activation ratio" but names no threshold; a sweep says more than one number.
    """
    total = counts_E.sum().item()
    return (counts_E * len(counts_E) > threshold * total).double().mean().item() if total else math.nan


def load_entropy(counts_E: Tensor) -> float:
    """Entropy of the load over log E: 1 is perfectly even, 0 one expert alone. With a single expert it is 1."""
    total = counts_E.sum().item()
    if not total:
        return math.nan
    if len(counts_E) == 1:
        return 1.0
    share_E = counts_E.double() / total
    return (torch.special.entr(share_E).sum() / math.log(len(counts_E))).item()


def max_over_mean(counts_E: Tensor) -> float:
    """The busiest expert's load over the uniform load: 1 is perfectly even, E one expert alone."""
    total = counts_E.sum().item()
    return counts_E.max().item() * len(counts_E) / total if total else math.nan
