"""SVG drawings as PNG bytes, by resvg."""

from __future__ import annotations

from pathlib import Path

from .images import MAX_BYTES
from .pictures import PictureRejected

_SIDE_IF_KEPT = 512  # a drawing has no pixels of its own
_DPI = 96  # of CSS; without it, resvg takes sizes in points or millimetres for zero


def check_resvg() -> None:
    """Raises `ValueError`, saying what to install, when resvg is not there."""
    try:
        import resvg_py  # noqa: F401
    except ImportError as error:
        raise ValueError(
            "Some pictures are SVG drawings, which resvg_py draws: pip install 'mm-mhmoe[svg]', "
            "or leave them out with --svg false."
        ) from error


def draw_svg(path: Path, image_size: int) -> bytes:
    """A PNG that is large enough for a shorter side of `image_size` pixels, up to a wide drawing of 4 to 1.

    Fonts of the machine are not used, so that every machine draws the same. Raises `PictureRejected`.
    """
    import resvg_py

    if path.stat().st_size > MAX_BYTES:
        raise PictureRejected("more bytes than the decoding limit")
    width = 4 * image_size if image_size else _SIDE_IF_KEPT
    try:
        return bytes(resvg_py.svg_to_bytes(svg_path=str(path), width=width, dpi=_DPI, skip_system_fonts=True))
    except ValueError as error:
        raise PictureRejected("unreadable SVG") from error
