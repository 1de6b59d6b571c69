"""Teachers by name: pixels, hog, timm:NAME, open_clip:ARCH/TAG, local-dir:DIR.

timm:NAME and open_clip:ARCH/TAG are pretrained, and downloaded once by their libraries. With nothing after a final
slash (timm:NAME/, open_clip:ARCH/) the weights are random, from a fixed seed.
"""

from __future__ import annotations

from mm_mhmoe.config import VisionConfig
from mm_mhmoe.models.teachers.hog import HOGTeacher
from mm_mhmoe.models.teachers.libraries import open_clip_teacher, own_teacher, timm_teacher
from mm_mhmoe.models.teachers.network import NetworkTeacher
from mm_mhmoe.models.teachers.pixels import PixelTeacher


def check_teacher_name(name: str) -> None:
    """Raises ValueError for a name of no kind of teacher."""
    kind, _, rest = name.partition(":")
    if name in ("pixels", "hog") or (kind in ("timm", "local-dir") and rest.strip("/")):
        return
    if kind == "open_clip" and rest.count("/") == 1 and not rest.startswith("/"):
        return
    raise ValueError(
        f"teacher={name} is unknown; known are pixels, hog, timm:NAME, open_clip:ARCH/TAG and local-dir:DIR "
        "(timm:NAME/ and open_clip:ARCH/ for random weights)"
    )


def build_teacher(name: str, vision: VisionConfig) -> PixelTeacher | HOGTeacher | NetworkTeacher:
    """The teacher of that name for pictures of `vision`. Raises ValueError when there is none or it cannot be had."""
    check_teacher_name(name)
    if name == "pixels":
        return PixelTeacher(vision.patch_size)
    if name == "hog":
        return HOGTeacher(vision.patch_size)
    kind, _, rest = name.partition(":")
    if kind == "timm":
        return timm_teacher(rest.removesuffix("/"), pretrained=not rest.endswith("/"), grid=vision.grid)
    if kind == "open_clip":
        architecture, _, tag = rest.partition("/")
        return open_clip_teacher(architecture, tag, grid=vision.grid)
    return own_teacher(name, grid=vision.grid)
