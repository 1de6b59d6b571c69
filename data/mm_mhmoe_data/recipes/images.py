"""Pictures of a source as they go into a shard: the original bytes, or a smaller WebP."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

from PIL import Image, ImageOps

from .pictures import MAX_PIXELS, PictureRejected

MAX_BYTES = 64 << 20
_EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
_CONVERTED = ("GIF", "BMP", "TIFF")  # read, but always written as WebP: shards hold the other three


@dataclass(frozen=True, kw_only=True)
class ShardImage:
    """The bytes of a picture, the extension of its member, and its size in pixels, now and in the source."""

    content: bytes
    extension: str
    width: int
    height: int
    original_width: int
    original_height: int


def check_image_options(image_size: int, quality: int) -> None:
    """Raises `ValueError` unless `shard_image` can use them."""
    if image_size != 0 and not 16 <= image_size <= 4096:
        raise ValueError(f"image_size={image_size} must be 0 (keep the original bytes) or lie between 16 and 4096.")
    if not 1 <= quality <= 100:
        raise ValueError(f"quality={quality} must lie between 1 and 100.")


def shard_image(content: bytes, *, image_size: int, quality: int) -> ShardImage:
    """Decode an encoded picture completely, and make its shorter side `image_size` pixels, keeping the aspect.

    Pictures are never enlarged, transparent parts become white, and a camera's rotation is applied. With
    `image_size` 0 the bytes of a JPEG, PNG or WebP stay as they are. Raises `PictureRejected` for what is damaged,
    in no known format, or too large to decode.
    """
    if len(content) > MAX_BYTES:
        raise PictureRejected("more bytes than the decoding limit")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about large pictures, which are ours to refuse, and odd metadata
            with Image.open(io.BytesIO(content), formats=[*_EXTENSIONS, *_CONVERTED]) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise PictureRejected("more pixels than the decoding limit")
                return _convert(image, content, image_size, quality)
    except Image.DecompressionBombError as error:
        raise PictureRejected("more pixels than the decoding limit") from error
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for damaged files
        raise PictureRejected("unreadable picture") from error


def _convert(image: Image.Image, content: bytes, image_size: int, quality: int) -> ShardImage:
    original = image.size
    form = image.format or ""
    if not image_size and form in _EXTENSIONS:
        image.load()
        return ShardImage(
            content=content,
            extension=_EXTENSIONS[form],
            width=original[0],
            height=original[1],
            original_width=original[0],
            original_height=original[1],
        )
    if image_size and form == "JPEG":
        image.draft("RGB", (2 * image_size, 2 * image_size))  # decodes at a fraction of the size, never below this
    rgb = _on_white(ImageOps.exif_transpose(image))
    if image_size and min(rgb.size) > image_size:
        scale = image_size / min(rgb.size)
        size = (max(1, round(rgb.width * scale)), max(1, round(rgb.height * scale)))
        rgb = rgb.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    if max(rgb.size) > 16383:
        raise PictureRejected("longer than WebP allows")
    buffer = io.BytesIO()
    rgb.save(buffer, "WEBP", quality=quality, method=4)
    return ShardImage(
        content=buffer.getvalue(),
        extension="webp",
        width=rgb.width,
        height=rgb.height,
        original_width=original[0],
        original_height=original[1],
    )


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "I;16"):  # 16 bits of grey; converting directly would cut them off at 255
        image = image.convert("F").point(lambda value: value * (1 / 257))
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
