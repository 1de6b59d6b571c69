"""From a source PNG to the small WebP that goes into a shard."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageChops

MAX_PIXELS = 40_000_000  # an RGBA picture of this size takes 160 MB while it is open
MIN_SIDE = 12
_WHITE = (255, 255, 255)


class PictureRejected(Exception):
    """The picture cannot be used; `reason` is one of a few short phrases that the manifest counts."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A WebP of `width` x `height` pixels and the size of the file it was made from."""

    content: bytes
    width: int
    height: int
    original_width: int
    original_height: int


def render_picture(path: Path, *, image_size: int, quality: int, keep_white: bool = False) -> Picture:
    """Put a PNG on white, trim it, and fit it into a white square of `image_size` pixels.

    With `keep_white`, an opaque white margin is part of the picture (the flag of Japan is not a red dot).
    Raises `PictureRejected` for files that are unreadable, too large to decode, too small or blank.
    """
    try:
        with _open_header(path) as source:
            original = source.size
            if original[0] * original[1] > MAX_PIXELS:
                raise PictureRejected("more pixels than the decoding limit")
            rgba = source.convert("RGBA")
    except Image.DecompressionBombError as error:
        raise PictureRejected("more pixels than the decoding limit") from error
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for damaged PNGs
        raise PictureRejected("unreadable picture") from error
    trimmed = _trim(rgba, keep_white=keep_white)
    if min(trimmed.size) < 2 or max(trimmed.size) < MIN_SIDE:
        raise PictureRejected("picture too small")
    square = _fit(trimmed, image_size)
    if _is_blank(square):
        raise PictureRejected("blank picture")
    buffer = io.BytesIO()
    square.save(buffer, "WEBP", quality=quality, method=6)
    return Picture(
        content=buffer.getvalue(),
        width=image_size,
        height=image_size,
        original_width=original[0],
        original_height=original[1],
    )


def _open_header(path: Path) -> Image.Image:
    """Reads the header only; the warning about large pictures is ours to act on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path, formats=["PNG"])


def _trim(rgba: Image.Image, *, keep_white: bool) -> Image.Image:
    """The part of the picture that is neither transparent nor (unless kept) white margin, on white."""
    visible = rgba.getchannel("A").point([0] * 16 + [255] * 240)
    box = visible.getbbox()
    if box is None:
        raise PictureRejected("blank picture")
    rgba = rgba.crop(box)
    canvas = Image.new("RGB", rgba.size, _WHITE)
    canvas.paste(rgba, mask=rgba.getchannel("A"))
    if keep_white:
        return canvas
    difference = ImageChops.difference(canvas, Image.new("RGB", canvas.size, _WHITE)).convert("L")
    box = difference.point([0] * 10 + [255] * 246).getbbox()
    if box is None:
        raise PictureRejected("blank picture")
    return canvas.crop(box)


def _fit(picture: Image.Image, image_size: int) -> Image.Image:
    """Scale to fit with a small margin (never up by more than two) and centre on a white square."""
    inner = image_size - 2 * max(1, image_size // 40)
    scale = min(inner / max(picture.size), 2.0)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    resized = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    square = Image.new("RGB", (image_size, image_size), _WHITE)
    square.paste(resized, ((image_size - size[0]) // 2, (image_size - size[1]) // 2))
    return square


def _is_blank(square: Image.Image) -> bool:
    """Whether hardly anything can be seen: pale marks that a viewer would not notice."""
    histogram = square.convert("L").histogram()
    total = sum(histogram)
    extrema = square.getextrema()
    flat = all(high - low < 24 for low, high in extrema)  # type: ignore[misc]
    return flat or (sum(histogram[:228]) < 0.004 * total)
