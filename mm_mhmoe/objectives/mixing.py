"""Mixup, CutMix and random erasing of a batch, as timm does them, and the classes that the pictures then have.

Shapes: B batch, C classes; of pixels, C is their channels.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from timm.data.mixup import Mixup
from timm.data.random_erasing import RandomErasing
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class MixConfig:
    """What is done to a batch of pictures and its classes. Defaults are BEiT-3's for ImageNet-1k.

    Args:
        mixup: alpha of the beta distribution that says how much of each of two pictures is seen through the other
            (arXiv 1710.09412); 0: none.
        cutmix: alpha of the share of a picture that is replaced by a piece of another (arXiv 1905.04899); 0: none. With
            both, each batch gets one of them, by a coin.
        erase: probability that a rectangle of a picture is replaced by noise (arXiv 1708.04896).
        smoothing: share of the target that is spread evenly over all classes (arXiv 1512.00567).
    """

    mixup: float = 0.8
    cutmix: float = 1.0
    erase: float = 0.25
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        for name in ("mixup", "cutmix"):
            if getattr(self, name) < 0:
                raise ValueError(f"mix.{name}={getattr(self, name)} must not be negative; 0 switches it off")
        for name in ("erase", "smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"mix.{name}={getattr(self, name)} must lie in [0, 1)")

    @property
    def mixes(self) -> bool:
        """Whether a picture may show two classes, which needs an even number of pictures."""
        return bool(self.mixup or self.cutmix)


def mix(pixels_BCHW: Tensor, labels_B: Tensor, num_classes: int, config: MixConfig) -> tuple[Tensor, Tensor]:
    """Pixels in [-1, 1] (uint8 as they came where nothing changes them), and the share of each class (B, C).

    What is random comes from torch's generator, which a run seeds for every step. Erased pixels become normal noise of
    deviation 1 on the scale of [-1, 1].

    Raises ValueError for an odd number of pictures where they are mixed: each is mixed with one from the other end.
    """
    if config.mixes and len(labels_B) % 2:
        raise ValueError(f"mix: {len(labels_B)} pictures cannot be mixed two by two; take an even batch_size")
    with _seeded_from_torch():
        if config.erase or config.mixes:
            pixels_BCHW = pixels_BCHW.float() / 127.5 - 1.0
        if config.erase:
            pixels_BCHW = RandomErasing(config.erase, mode="pixel", device=pixels_BCHW.device.type)(pixels_BCHW)
        if not config.mixes:
            shares_BC = F.one_hot(labels_B, num_classes) * (1.0 - config.smoothing) + config.smoothing / num_classes
            return pixels_BCHW, shares_BC
        mixing = Mixup(config.mixup, config.cutmix, label_smoothing=config.smoothing, num_classes=num_classes)
        return mixing(pixels_BCHW, labels_B)


@contextmanager
def _seeded_from_torch() -> Iterator[None]:
    """Python's and numpy's generators, from which timm draws, seeded from torch's; put back afterwards."""
    states = random.getstate(), np.random.get_state()
    seed = int(torch.randint(2**31, ()))
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
