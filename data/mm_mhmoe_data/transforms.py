"""Pictures to the encoder's size: uint8 (3, H, W) to uint8 (3, S, S)."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Literal, Protocol

import torch.nn.functional as F
from torch import Tensor

from mm_mhmoe_data.colour_jitter import jitter_colours
from mm_mhmoe_data.directions import ENGLISH, says_direction

Flip = Literal["off", "on", "caption"]
Interpolation = Literal["bilinear", "bicubic"]
Box = tuple[int, int, int, int]
"""Top, left, height and width of a part of a picture."""


class Transform(Protocol):
    """Pictures to a model's size, nothing about them random: uint8 (3, H, W) to uint8 (3, S, S)."""

    @property
    def image_size(self) -> int:
        """S."""
        ...

    @property
    def least_side(self) -> int | None:
        """Of a picture that need not be larger; None: it is needed as it is."""
        ...

    def __call__(self, picture_CHW: Tensor) -> Tensor: ...


class TrainTransform:
    """Random resized crop; by option a horizontal flip and colour jitter. What is random is an argument.

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

    def __call__(
        self, picture_CHW: Tensor, draws: Sequence[float], said: str = "", out_CHW: Tensor | None = None
    ) -> Tensor:
        """The square, in `out_CHW` where that is given.

        Args:
            draws: eight numbers in [0, 1), all that is random: area, aspect, top and left of the crop, flip,
                brightness, contrast, saturation.
            said: the text that goes with the picture in this stream; it matters to flip=caption only.
        """
        area, aspect, top, left, heads, *colours = draws
        height, width = picture_CHW.shape[-2:]
        area = (self.min_scale + (1 - self.min_scale) * area) * height * width
        aspect = math.exp(math.log(4 / 3) * (2 * aspect - 1))
        crop_height = min(height, max(1, round(math.sqrt(area / aspect))))
        crop_width = min(width, max(1, round(math.sqrt(area * aspect))))
        top, left = int(top * (height - crop_height + 1)), int(left * (width - crop_width + 1))
        crop = top, left, crop_height, crop_width
        flips = heads < 0.5 and (
            self.flip == "on" or (self.flip == "caption" and not says_direction(said, self.directions))
        )
        changes = flips or self.jitter
        into_CHW = None if changes else out_CHW
        picture_CHW = resize(picture_CHW, self.image_size, self.image_size, self.interpolation, crop, into_CHW)
        if flips:
            picture_CHW = picture_CHW.flip(-1)
        if self.jitter:
            picture_CHW = jitter_colours(picture_CHW, self.jitter, colours)
        return out_CHW.copy_(picture_CHW) if changes and out_CHW is not None else picture_CHW


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


def resize(
    picture_CHW: Tensor,
    height: int,
    width: int,
    interpolation: Interpolation,
    crop: Box | None = None,
    out_CHW: Tensor | None = None,
) -> Tensor:
    """Antialiased, in uint8; what is of that size stays as it is. The result lies in `out_CHW` where that is given.

    Fast where the colours of a pixel lie next to each other, as `decode_picture` leaves them.

    Args:
        crop: the part to resize; None: all of the picture.
    """
    top, left, *size = (0, 0, *picture_CHW.shape[1:]) if crop is None else crop
    crop_1CHW = _view(picture_CHW, top, left, *size)
    if size == [height, width]:
        return crop_1CHW[0] if out_CHW is None else out_CHW.copy_(crop_1CHW[0])
    resized_CHW = F.interpolate(crop_1CHW, (height, width), mode=interpolation, antialias=True)[0]
    return resized_CHW if out_CHW is None else out_CHW.copy_(resized_CHW)


def _view(picture_CHW: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    """(1, C, height, width), the part of a picture as a batch of one, whose strides lead torch to its fastest kernel.

    One call instead of slices and permutes, each of which takes a hundredth of what resizing does.
    """
    channel, row, column = picture_CHW.stride()
    start = int(picture_CHW.storage_offset()) + top * row + left * column
    return picture_CHW.as_strided((1, picture_CHW.shape[0], height, width), (height * row, channel, row, column), start)
