"""Whether two models' scores on the same samples differ by more than chance.

Shapes: N samples, R rearrangements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mm_mhmoe_eval.results import bootstrap_interval

_CHUNK = 1 << 22  # signs at a time


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """difference: mean of ours minus theirs. low, high: 95% bootstrap interval of it. p: two-sided."""

    difference: float
    low: float
    high: float
    p: float


def paired_test(ours: Sequence[float], theirs: Sequence[float], *, seed: int = 0, draws: int = 10_000) -> PairedTest:
    """A permutation test of pairs, and a bootstrap interval of their mean difference.

    If both models were equally good, each difference could as well have the other sign (Fisher's randomisation test;
    for NLP scores: Noreen 1989, Dror et al. 2018). p is the share of random signs whose mean is as far from 0 as the
    one found, that one counted (Phipson and Smyth 2010): it is never 0. Samples are taken as independent; questions
    about the same picture are not quite, which makes p too small.

    Args:
        ours, theirs: scores of the same samples in the same order.

    Raises ValueError for lengths that differ, or fewer than two samples.
    """
    if len(ours) != len(theirs) or len(ours) < 2:
        raise ValueError(f"a paired test needs scores of the same samples, got {len(ours)} and {len(theirs)}")
    difference_N = torch.as_tensor(ours, dtype=torch.float64) - torch.as_tensor(theirs, dtype=torch.float64)
    low, high = bootstrap_interval(difference_N.tolist(), seed=seed)
    changed_N = difference_N[difference_N != 0]  # the sign of a zero changes nothing
    generator = torch.Generator().manual_seed(seed)
    found, as_far = changed_N.sum().abs() * (1 - 1e-12), 1
    rows = max(1, _CHUNK // max(1, len(changed_N)))
    for start in range(0, draws, rows):
        shape = (min(rows, draws - start), len(changed_N))
        sign_RN = torch.randint(0, 2, shape, generator=generator, dtype=torch.int8).double() * 2 - 1
        as_far += int(((sign_RN @ changed_N).abs() >= found).sum())
    return PairedTest(difference=difference_N.mean().item(), low=low, high=high, p=as_far / (draws + 1))


def holm(ps: Sequence[float]) -> list[float]:
    """p values of a family of tests, adjusted so that one below .05 is wrong in at most 5% of families (Holm 1979)."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted, highest = [0.0] * len(ps), 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - place) * ps[i]))
        adjusted[i] = highest
    return adjusted
