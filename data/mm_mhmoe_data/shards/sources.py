"""Several sources of shards with weights, as open_clip writes them: `A::B` and `1::2`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mm_mhmoe_data.shards.location import Shard
from mm_mhmoe_data.shards.spec import expand_shards


@dataclass(frozen=True, kw_only=True)
class Source:
    """Shards that are mixed with others. weight: how often it is drawn from, relative to the others; above 0."""

    shards: tuple[Shard, ...]
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.shards:
            raise ValueError("shards=() is empty; a source needs at least one")
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise ValueError(f"weight={self.weight} must be a number above 0; leave a source out to draw nothing of it")


def expand_sources(spec: str | Path, weights: str | Sequence[float] = ()) -> list[Source]:
    """One source for each part of `spec` between "::".

    Args:
        spec: `A::B`; each part takes any form of `expand_shards`.
        weights: `1::2`, or numbers; none: all are 1.

    Raises:
        ValueError: a part names nothing, or weights do not fit the parts.
    """
    parts = str(spec).split("::")
    texts: Sequence[str | float] = weights.split("::") if isinstance(weights, str) and weights else list(weights)
    try:
        numbers = [float(text) for text in texts] or [1.0] * len(parts)
    except ValueError as error:
        raise ValueError(f"weights={weights!r} must be numbers joined by '::', as in 1::2.5") from error
    if len(numbers) != len(parts):
        raise ValueError(f"weights={weights!r} are {len(numbers)} for the {len(parts)} sources {spec}; give one each")
    return [
        Source(shards=tuple(expand_shards(part)), weight=number) for part, number in zip(parts, numbers, strict=True)
    ]
