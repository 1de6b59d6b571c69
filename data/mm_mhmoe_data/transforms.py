"""Pictures to the encoder's size: uint8 (3, H, W) to uint8 (3, S, S)."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor
from torchvision.transforms.v2 import functional as F


class TrainTransform:
    """Random resized crop, and a flip if asked for. What is random comes from the generator that is passed in.

    Args:
        image_size: side of the result.
        min_scale: smallest part of the area that a crop keeps.
        flip: chance of a horizontal flip; off by default, because captions say "left" and "right".
    """

    def __init__(self, image_size: int, *, min_scale: float = 0.5, flip: float = 0.0) -> None:
        if not 0 < min_scale <= 1:
            raise ValueError(f"min_scale={min_scale} must lie in (0, 1]")
        self.image_size = image_size
        self.min_scale = min_scale
        self.flip = flip

    def __call__(self, picture_CHW: Tensor, rng: np.random.Generator) -> Tensor:
        height, width = picture_CHW.shape[-2:]
        area = rng.uniform(self.min_scale, 1.0) * height * width
        aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        crop_height = min(height, max(1, round(math.sqrt(area / aspect))))
        crop_width = min(width, max(1, round(math.sqrt(area * aspect))))
        top = int(rng.integers(0, height - crop_height + 1))
        left = int(rng.integers(0, width - crop_width + 1))
        size = [self.image_size, self.image_size]
        picture_CHW = F.resized_crop(picture_CHW, top, left, crop_height, crop_width, size, antialias=True)
        return F.horizontal_flip(picture_CHW) if rng.random() < self.flip else picture_CHW


class EvalTransform:
    """Shorter side to image_size, then the centre; a picture of that size stays as it is."""

    def __init__(self, image_size: int) -> None:
        self.image_size = image_size

    def __call__(self, picture_CHW: Tensor) -> Tensor:
        if picture_CHW.shape[-2:] == (self.image_size, self.image_size):
            return picture_CHW
        return F.center_crop(F.resize(picture_CHW, [self.image_size], antialias=True), [self.image_size] * 2)
