"""Library models by name: open_clip:ARCHITECTURE/WEIGHTS.

WEIGHTS is a tag of the library's pretrained weights, which it downloads once, or a file. Empty or `random` asks for
random weights from a fixed seed: a row of a table that shows what the untrained model scores.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from mm_mhmoe_eval.libraries.open_clip_model import open_clip_model

LIBRARIES = ("open_clip:",)
"""How their names begin."""
RANDOM = "random"


class LibraryModel(NamedTuple):
    """A model, and its name as records give it: random weights are always said."""

    model: nn.Module
    name: str
    weights: str


def load_library_model(name: str) -> LibraryModel:
    """Raises ValueError where there is no such model, or its weights cannot be had."""
    library, _, rest = name.partition(":")
    architecture, _, weights = rest.partition("/")
    if weights == RANDOM:
        weights = ""
    if library == "open_clip" and architecture:
        model = open_clip_model(name, architecture, weights)
        return LibraryModel(model, f"open_clip:{architecture}/{weights or RANDOM}", weights or RANDOM)
    raise ValueError(f"{name} is unknown; write open_clip:ARCHITECTURE/WEIGHTS, or open_clip:ARCHITECTURE/random")
