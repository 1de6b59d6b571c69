"""Library models by name: open_clip:ARCHITECTURE/WEIGHTS, timm:ARCHITECTURE or timm:ARCHITECTURE/WEIGHTS.

WEIGHTS is a tag of open_clip's pretrained weights, which it downloads once, or a file. Empty or `random` asks for
random weights from a fixed seed: a row of a table that shows what the untrained model scores. timm:ARCHITECTURE alone
is pretrained.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from mm_mhmoe_eval.libraries.open_clip_model import open_clip_model
from mm_mhmoe_eval.libraries.timm_model import timm_model

LIBRARIES = ("open_clip:", "timm:")
"""How their names begin."""

RANDOM = "random"


class LibraryModel(NamedTuple):
    """A model, its name as records give it, and its weights in words: random ones are always said."""

    model: nn.Module
    name: str
    weights: str


def load_library_model(name: str) -> LibraryModel:
    """Raises ValueError where there is no such model, or its weights cannot be had."""
    library, _, rest = name.partition(":")
    architecture, slash, weights = rest.partition("/")
    if weights == RANDOM:
        weights = ""
    if library == "open_clip" and architecture and slash:
        model: nn.Module = open_clip_model(name, architecture, weights)
        return LibraryModel(model, f"{library}:{architecture}/{weights or RANDOM}", weights or RANDOM)
    if library == "timm" and architecture:
        model = timm_model(name, architecture, weights if slash else None)
        told = (weights or RANDOM) if slash else "pretrained"
        return LibraryModel(model, f"{library}:{architecture}/{told}", told)
    raise ValueError(
        f"{name} is unknown; write open_clip:ARCHITECTURE/WEIGHTS or timm:ARCHITECTURE, with /random for random weights"
    )
