"""Numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence

MINUS = "\u2212"


def percent(fraction: float, digits: int = 1) -> str:
    """0.1234 -> "12.3%"."""
    return f"{100 * fraction:.{digits}f}%"


def points(difference: float) -> str:
    """A difference of two fractions in percentage points, with its sign: 0.031 -> "+3.1"."""
    rounded = round(100 * difference, 1)
    if rounded == 0:
        return "0.0"
    return f"{'+' if rounded > 0 else MINUS}{abs(rounded):.1f}"


def compact(number: float) -> str:
    """1234567 -> "1.23 M"; three digits that count."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(number) >= limit:
            return f"{_three(number / (1e3 if unit == 'k' else limit))} {unit}"
    return whole(number) if float(number).is_integer() else _three(number)


def whole(number: float) -> str:
    """12345 -> "12,345"."""
    return f"{round(number):,}"


def times(factor: float) -> str:
    """How many times: 26.71 -> "27 \u00d7", 3.14 -> "3.1 \u00d7"."""
    return f"{factor:.0f}\u00a0\u00d7" if factor >= 10 else f"{factor:.1f}\u00a0\u00d7"


def duration(seconds: float) -> str:
    """3725 -> "1 h 2 min"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def deviation(values: Sequence[float]) -> float | None:
    """Sample standard deviation; None for a single value."""
    if len(values) < 2:
        return None
    centre = mean(values)
    return math.sqrt(sum((value - centre) ** 2 for value in values) / (len(values) - 1))


def plural(count: int, noun: str) -> str:
    """1 step, 2 steps."""
    return f"{whole(count)} {noun}{'' if count == 1 else 's'}"


def _three(number: float) -> str:
    digits = max(0, 2 - math.floor(math.log10(abs(number))) if number else 2)
    return f"{number:.{digits}f}"


def paired_error(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Standard error of the mean difference of pairs (the same samples, or seeds); None where they cannot be paired."""
    if len(ours) != len(theirs) or len(ours) < 2:
        return None
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    return (deviation(differences) or 0.0) / math.sqrt(len(differences))
