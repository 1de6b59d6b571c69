"""Kinds of tasks: each a function `(model, ScoredData) -> Scored`."""

from collections.abc import Callable
from typing import Any

from mm_mhmoe_eval.kinds import masked, retrieval, vqa
from mm_mhmoe_eval.kinds.scored import Scored, ScoredData

KINDS: dict[str, Callable[[Any, ScoredData], Scored]] = {
    "retrieval": retrieval.score,
    "vqa": vqa.score,
    "masked": masked.score,
}

__all__ = ["KINDS", "Scored", "ScoredData"]
