"""Bytes of a picture to pixels, without trust."""

from __future__ import annotations

import io

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_BYTES = 64 << 20
MAX_PIXELS = 50_000_000


def decode_picture(content: bytes) -> Tensor:
    """JPEG, PNG or WebP to uint8 RGB (3, H, W). Transparent parts become white.

    Raises:
        ValueError: too many bytes or pixels (the header is looked at first), another format, or damaged data.
    """
    if len(content) > MAX_BYTES:
        raise ValueError(f"picture of {len(content)} bytes; at most {MAX_BYTES} are read")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"picture of {image.width}x{image.height} pixels; at most {MAX_PIXELS} are decoded")
            if image.mode != "RGB":
                rgba = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
            pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
            return pixels.view(image.height, image.width, 3).permute(2, 0, 1).contiguous()
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"the picture cannot be decoded ({error})") from error
