"""What is random about a sample, and masks of patches and words: pure functions of (seed, epoch, sample key, stream).

Legend: N patches, L text length.
"""

from __future__ import annotations

import hashlib
import math
import struct
from typing import Literal

import numpy as np
import torch
from torch import Tensor

_TRIES = 10
_EIGHT_WORDS = struct.Struct("<8Q")

ImageMaskKind = Literal["block", "random", "cube"]


def sample_rng(seed: int, epoch: int, key: str, stream: str) -> np.random.Generator:
    """A generator that depends on nothing but its arguments, in any process and on any machine."""
    return np.random.default_rng(int.from_bytes(_digest(seed, epoch, key, stream, 16), "little"))


def sample_draws(seed: int, epoch: int, key: str, stream: str) -> tuple[float, ...]:
    """Eight numbers in [0, 1) that depend on nothing but the arguments.

    They are the bits of a hash, which takes a tenth of the time that it takes to set up a generator.
    """
    words = _EIGHT_WORDS.unpack(_digest(seed, epoch, key, stream, _EIGHT_WORDS.size))
    return tuple([(word >> 11) * 2.0**-53 for word in words])


def _digest(seed: int, epoch: int, key: str, stream: str, size: int) -> bytes:
    return hashlib.blake2b(f"{seed}/{epoch}/{key}/{stream}".encode(), digest_size=size).digest()


def image_mask(
    grid: int, ratio: float, rng: np.random.Generator, *, kind: ImageMaskKind = "block", unit: int = 1
) -> Tensor:
    """A mask of patches of the named kind: (N,) bool with exactly round(ratio N) patches hidden. `unit`: of cubes."""
    if kind == "cube":
        return cube_mask(grid, ratio, rng, unit=unit)
    return block_mask(grid, ratio, rng) if kind == "block" else random_mask(grid, ratio, rng)


def random_mask(grid: int, ratio: float, rng: np.random.Generator) -> Tensor:
    """Patches drawn one by one, each as likely as any other (MAE, arXiv 2111.06377)."""
    mask = np.zeros(grid * grid, dtype=bool)
    mask[rng.choice(grid * grid, size=round(ratio * grid * grid), replace=False)] = True
    return torch.from_numpy(mask)


def cube_mask(grid: int, ratio: float, rng: np.random.Generator, *, unit: int) -> Tensor:
    """Squares of unit x unit patches drawn uniformly (SimMIM, arXiv 2111.09886): where they lie depends on nothing in
    the picture. The last square drawn is hidden in part where that makes the number exact; those at the right and lower
    edges are smaller where `unit` does not divide the grid.
    """
    across = -(-grid // unit)
    lines = np.arange(grid) // unit
    cell_N = (lines[:, None] * across + lines).ravel()
    # Squares in a random order, and within each its patches in one.
    order_N = rng.permutation(across * across)[cell_N] + rng.random(grid * grid)
    mask = np.zeros(grid * grid, dtype=bool)
    mask[np.argsort(order_N)[: round(ratio * grid * grid)]] = True
    return torch.from_numpy(mask)


def block_mask(grid: int, ratio: float, rng: np.random.Generator, *, min_aspect: float = 0.3) -> Tensor:
    """Block-wise mask of BEiT (arXiv 2106.08254, algorithm 1): (N,) bool with exactly round(ratio N) patches hidden.

    Rectangles of at least 16 of 196 patches (in proportion for other grids) and an aspect between min_aspect and its
    inverse are laid over the grid until the number is reached; what a last block has too much is given back at random.
    """
    wanted = round(ratio * grid * grid)
    smallest = max(1, round(16 / 196 * grid * grid))
    mask = np.zeros((grid, grid), dtype=bool)
    while (missing := wanted - np.count_nonzero(mask)) > 0:
        before = mask.copy()
        for _ in range(_TRIES):
            area = rng.uniform(smallest, max(smallest, missing))
            aspect = math.exp(rng.uniform(math.log(min_aspect), -math.log(min_aspect)))
            height = min(grid, max(1, round(math.sqrt(area * aspect))))
            width = min(grid, max(1, round(math.sqrt(area / aspect))))
            top, left = rng.integers(0, grid - height + 1), rng.integers(0, grid - width + 1)
            block = mask[top : top + height, left : left + width]
            if np.count_nonzero(block) < block.size:
                block[:] = True
                break
        excess = np.count_nonzero(mask) - wanted
        if excess > 0:
            fresh = np.flatnonzero(mask & ~before)
            mask.ravel()[rng.choice(fresh, size=excess, replace=False)] = False
        elif (mask == before).all():  # no block found new ground: hide single patches
            free = np.flatnonzero(~mask)
            mask.ravel()[rng.choice(free, size=missing, replace=False)] = True
    return torch.from_numpy(mask.ravel())


def text_mask(maskable_L: np.ndarray, ratio: float, rng: np.random.Generator) -> Tensor:
    """Random mask over the maskable tokens (no special ones): (L,) bool, at least one where there is one."""
    places = np.flatnonzero(maskable_L)
    mask = np.zeros(len(maskable_L), dtype=bool)
    if len(places):
        # The fraction is rounded up or down at random, so that short texts too are masked at `ratio` on average.
        count = math.floor(ratio * len(places) + rng.random())
        mask[rng.choice(places, size=max(1, count), replace=False)] = True
    return torch.from_numpy(mask)


def whole_word_mask(maskable_L: np.ndarray, begins_L: np.ndarray, ratio: float, rng: np.random.Generator) -> Tensor:
    """As `text_mask`, but words are drawn, and all maskable tokens of a drawn word are hidden.

    Args:
        begins_L: True where a word begins; what comes before the first beginning is a word too.
    """
    word_L = np.cumsum(begins_L)
    words, place_of_word = np.unique(word_L[maskable_L], return_inverse=True)
    drawn = text_mask(np.ones(len(words), dtype=bool), ratio, rng).numpy()
    mask = np.zeros(len(maskable_L), dtype=bool)
    mask[maskable_L] = drawn[place_of_word]
    return torch.from_numpy(mask)
