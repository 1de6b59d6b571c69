"""Reading the pictures of a research data set: their own bytes, checked, or made smaller on request."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from .images import MAX_BYTES, ShardImage, shard_image
from .pictures import PictureRejected
from .plan import Dropped
from .research_options import PictureOptions


def load_picture(root: Path, name: str, options: PictureOptions) -> ShardImage | Dropped:
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


def check_picture(content: bytes, what: str, options: PictureOptions) -> ShardImage | Dropped:
    """Decodes the picture, so that what is written can be read again. `what` names it where it is dropped."""
    try:
        return shard_image(content, image_size=options.image_size, quality=options.quality)
    except PictureRejected as error:
        return Dropped(reason=error.reason, what=what)


def picture_sizes(image: ShardImage) -> dict[str, int]:
    """The sizes in pixels under img2dataset's names."""
    return {
        "width": image.width,
        "height": image.height,
        "original_width": image.original_width,
        "original_height": image.original_height,
    }
