"""Bytes of a picture to pixels, without trust.

PIL decides what is accepted. Where simplejpeg is installed it decodes plain JPEGs instead, which is faster and gives
the same pixels: both stand on libjpeg-turbo.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_BYTES = 64 << 20
MAX_PIXELS = 50_000_000
DECODER = "PIL" if simplejpeg is None else "simplejpeg"
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_picture(content: bytes, *, at_least: int | None = None) -> Tensor:
    """JPEG, PNG or WebP to uint8 RGB (3, H, W), whose colours lie next to each other in memory (channels last).

    Transparent parts become white. Gray, palette, 16-bit and CMYK pictures become RGB. A picture that its camera marked
    as turned (EXIF) is turned upright, because captions say what a person sees.

    Args:
        at_least: a JPEG may come at a half, a quarter or an eighth of its size, which is faster, as long as both its
            sides have this many pixels.

    Raises:
        ValueError: too many bytes or pixels (the header is looked at first), another format, or damaged data.
    """
    if len(content) > MAX_BYTES:
        raise ValueError(f"picture of {len(content)} bytes; at most {MAX_BYTES} are read")
    fast = _plain_jpeg(content, at_least) if simplejpeg is not None else None
    pixels_HWC = _any_picture(content, at_least) if fast is None else fast
    return torch.from_numpy(pixels_HWC).permute(2, 0, 1)


def _plain_jpeg(content: bytes, at_least: int | None) -> np.ndarray | None:
    """(H, W, 3), or None for what PIL has to judge: other formats, damage, CMYK, turned and oversized pictures."""
    if not content.startswith(b"\xff\xd8\xff") or b"Exif\0\0" in content:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        if colours not in ("YCbCr", "Gray") or height * width > MAX_PIXELS:
            return None
        by = 1 if at_least is None else _divisor(height, width, at_least)
        return simplejpeg.decode_jpeg(content, min_height=-(-height // by), min_width=-(-width // by))
    except ValueError:
        return None


def _divisor(height: int, width: int, at_least: int) -> int:
    """The largest of 8, 4, 2 and 1 that leaves both sides `at_least` pixels; the rule of PIL's `draft`."""
    times = min(height, width) // at_least
    return 8 if times >= 8 else 4 if times >= 4 else 2 if times >= 2 else 1


def _any_picture(content: bytes, at_least: int | None) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"picture of {image.width}x{image.height} pixels; at most {MAX_PIXELS} are decoded")
            if at_least is not None:
                image.draft(None, (at_least, at_least))
            orientation = _orientation(image)
            upright = image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image
            return _rgb(upright)
    except UnidentifiedImageError as error:
        raise ValueError(f"the picture cannot be decoded (it is no {', '.join(FORMATS)})") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"the picture cannot be decoded ({error})") from error


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a camera's damaged notes are no reason to lose the picture
        return 1


def _rgb(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8."""
    if image.mode.startswith("I;16"):  # PIL would cut the values off at 255
        gray_HW = (np.array(image) >> 8).astype(np.uint8)
        return np.repeat(gray_HW[:, :, None], 3, axis=2)
    if image.mode != "RGB":
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return np.array(image)
