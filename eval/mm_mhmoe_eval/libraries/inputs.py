"""What a library does to pictures and texts before its model, in the form in which the data read them.

Shapes: C channels, H W a picture's sides, S side of the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import Tensor


class PILTransform:
    """A library's preparation of a PIL picture, as a transform of uint8 (3, H, W) to uint8 (3, S, S).

    Args:
        prepare: a PIL picture to floats in [0, 1], (3, S, S): resizing and cropping, but no normalisation, which the
            model does. A resized picture holds whole numbers of 255ths, so that nothing is lost.
        image_size: S.
    """

    least_side = None
    """The picture is needed as it is: a JPEG that is decoded at half its size looks a little different."""

    def __init__(self, prepare: Callable[[Any], Tensor], image_size: int) -> None:
        self.prepare = prepare
        self.image_size = image_size

    def __call__(self, picture_CHW: Tensor) -> Tensor:
        image = Image.fromarray(picture_CHW.permute(1, 2, 0).numpy())
        return (self.prepare(image) * 255.0).round().to(torch.uint8)


class WholeRows:
    """A tokenizer of open_clip. Texts keep its padding, so that the model sees what it would see in open_clip."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def encode(self, text: str, max_length: int) -> list[int]:
        """Always the context's length of ids, which is the model's `text.max_length`."""
        return self.tokenizer([text])[0].tolist()
