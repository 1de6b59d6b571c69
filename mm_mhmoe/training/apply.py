"""What a run does to an encoder's blocks without changing what they compute, nor the names of their weights."""

from __future__ import annotations

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from mm_mhmoe.models.encoder import Encoder


def checkpoint_blocks(encoder: Encoder) -> None:
    """Keeps only what goes into a block for its backward pass, which computes the block again (arXiv 1604.06174).

    Dropout and stochastic depth draw the same again.
    """
    for block in encoder.blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)  # type: ignore[method-assign]


def compile_blocks(encoder: Encoder, **options: str) -> None:
    """torch.compile of every block, in place. Options are torch's."""
    for block in encoder.blocks:
        block.compile(**options)


def encoders(module: nn.Module) -> list[Encoder]:
    """The encoders inside a module."""
    return [part for part in module.modules() if isinstance(part, Encoder)]
