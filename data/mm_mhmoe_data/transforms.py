"""Pictures to the encoder's size: uint8 (3, H, W) to uint8 (3, S, S)."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Literal, Protocol

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from mm_mhmoe_data.colour_jitter import jitter_colours
from mm_mhmoe_data.directions import ENGLISH, says_direction

Flip = Literal["off", "on", "caption"]
Interpolation = Literal["bilinear", "bicubic"]


class Transform(Protocol):
    """Pictures to a model's size, nothing about them random: uint8 (3, H, W) to uint8 (3, S, S)."""

    @property
    def least_side(self) -> int | None:
        """Of a picture that need not be larger; None: it is needed as it is."""
        ...

    def __call__(self, picture_CHW: Tensor) -> Tensor: ...


class TrainTransform:
    """Random resized crop; by option a horizontal flip and colour jitter. What is random comes from the generator.

    Args:
        image_size: side of the result.
        min_scale: smallest part of the area that a crop keeps.
        flip: on: every second picture is flipped. caption: those of which something is said that names left or right
            are not. off by default, because captions say "left" and "right".
        jitter: brightness, contrast and saturation are multiplied by factors in [1 - jitter, 1 + jitter] (.4 in
            BEiT-3); 0: none.
        interpolation: of the resize.
        directions: words that tell left from right, for flip=caption.
    """

    def __init__(
        self,
        image_size: int,
        *,
        min_scale: float = 0.5,
        flip: Flip = "off",
        jitter: float = 0.0,
        interpolation: Interpolation = "bilinear",
        directions: Collection[str] = ENGLISH,
    ) -> None:
        if not 0 < min_scale <= 1:
            raise ValueError(f"min_scale={min_scale} must lie in (0, 1]")
        if flip not in ("off", "on", "caption"):
            raise ValueError(f"flip={flip!r} must be off, on or caption")
        if not 0 <= jitter < 1:
            raise ValueError(f"jitter={jitter} must lie in [0, 1)")
        self.image_size = image_size
        self.min_scale = min_scale
        self.flip = flip
        self.jitter = jitter
        self.interpolation = interpolation
        self.directions = frozenset(directions)

    @property
    def least_side(self) -> int:
        """Of a picture that need not be larger: even the narrowest crop is not enlarged."""
        return math.ceil(self.image_size / math.sqrt(self.min_scale * 3 / 4))

    def __call__(self, picture_CHW: Tensor, rng: np.random.Generator, said: str = "") -> Tensor:
        """`said` is the text that goes with the picture in this stream; it matters to flip=caption only."""
        height, width = picture_CHW.shape[-2:]
        area = rng.uniform(self.min_scale, 1.0) * height * width
        aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        crop_height = min(height, max(1, round(math.sqrt(area / aspect))))
        crop_width = min(width, max(1, round(math.sqrt(area * aspect))))
        top = int(rng.integers(0, height - crop_height + 1))
        left = int(rng.integers(0, width - crop_width + 1))
        crop_CHW = picture_CHW[:, top : top + crop_height, left : left + crop_width]
        picture_CHW = resize(crop_CHW, self.image_size, self.image_size, self.interpolation)
        # Drawn whether it is used or not: what is drawn after it, such as masks, must not depend on the option.
        heads = rng.random() < 0.5
        if self.flip == "on" or (self.flip == "caption" and not says_direction(said, self.directions)):
            picture_CHW = picture_CHW.flip(-1) if heads else picture_CHW
        return jitter_colours(picture_CHW, self.jitter, rng) if self.jitter else picture_CHW


class EvalTransform:
    """Shorter side to image_size, then the centre; a picture of that size stays as it is."""

    def __init__(self, image_size: int, *, interpolation: Interpolation = "bilinear") -> None:
        self.image_size = image_size
        self.interpolation = interpolation

    @property
    def least_side(self) -> int:
        """Of a picture that need not be larger."""
        return self.image_size

    def __call__(self, picture_CHW: Tensor) -> Tensor:
        size, (height, width) = self.image_size, picture_CHW.shape[-2:]
        shorter = min(height, width)
        height, width = size * height // shorter, size * width // shorter
        top, left = round((height - size) / 2), round((width - size) / 2)
        resized_CHW = resize(picture_CHW, height, width, self.interpolation)
        return resized_CHW[:, top : top + size, left : left + size]


def resize(picture_CHW: Tensor, height: int, width: int, interpolation: Interpolation) -> Tensor:
    """Antialiased, in uint8; a picture of that size stays as it is.

    Fast where the colours of a pixel lie next to each other, as `decode_picture` leaves them; a crop need not be copied
    out.
    """
    if picture_CHW.shape[-2:] == (height, width):
        return picture_CHW
    # torch has a kernel for pixels of three bytes; it recognises them by the strides that this order of steps gives.
    picture_1CHW = picture_CHW.permute(1, 2, 0).unsqueeze(0).permute(0, 3, 1, 2)
    return F.interpolate(picture_1CHW, (height, width), mode=interpolation, antialias=True)[0]
