"""Pictures of a research data set: their own bytes, checked, or made smaller on request."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from ..pictures import MAX_BYTES, decode_picture
from .plan import Dropped
from .research_options import PictureOptions


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A picture that can be decoded, its extension (what the bytes are, whatever the file was called) and its size."""

    content: bytes
    extension: str
    width: int
    height: int
    original_width: int
    original_height: int

    @property
    def facts(self) -> dict[str, int]:
        """The sizes under img2dataset's names."""
        return {name: getattr(self, name) for name in ("width", "height", "original_width", "original_height")}


def load_picture(root: Path, name: str, options: PictureOptions) -> Loaded | Dropped:
    """The picture root/name, where `name` comes from a file of the data set and may not lead out of root."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        return Dropped(reason="path leads out of the data set", what=name)
    try:
        with (root / relative).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return Dropped(reason="picture is missing", what=name)
    except (IsADirectoryError, ValueError):  # a name with a zero byte
        return Dropped(reason="not the name of a picture", what=name)
    return check_picture(content, name, options)


def check_picture(content: bytes, what: str, options: PictureOptions) -> Loaded | Dropped:
    """Decodes the picture, so that what is written can be read again. `what` names it where it is dropped."""
    try:
        pixels = decode_picture(content)
    except ValueError as error:
        return Dropped(reason="picture cannot be used", what=f"{what}: {error}")
    height, width = pixels.shape[1:]
    small = options.image_size
    if not small or min(width, height) <= small:
        return Loaded(
            content=content,
            extension=_extension(content),
            width=width,
            height=height,
            original_width=width,
            original_height=height,
        )
    scale = small / min(width, height)
    size = (max(small, round(width * scale)), max(small, round(height * scale)))
    buffer = io.BytesIO()
    image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    image.resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=options.quality)
    return Loaded(
        content=buffer.getvalue(),
        extension="jpg",
        width=size[0],
        height=size[1],
        original_width=width,
        original_height=height,
    )


def _extension(content: bytes) -> str:
    if content.startswith(b"\xff\xd8"):
        return "jpg"
    return "png" if content.startswith(b"\x89PNG") else "webp"  # no other format is decoded
