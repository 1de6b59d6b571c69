"""A contact sheet: some pictures of a data set with their captions, to look at before training."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .shards import Sample, iter_samples
from .stats import IMAGE_EXTENSIONS

_CELL = 168
_GAP = 18
_TEXT_LINES = 3
_LINE = 16
_MAX_PIXELS = 40_000_000
_PAGE, _CARD, _EDGE, _INK = "#eef0f3", "#ffffff", "#d5d9df", "#22262b"


def contact_sheet(paths: Sequence[Path], out_png: Path, n: int = 24, seed: int = 0) -> int:
    """Draw `n` samples chosen by `seed` with captions to `out_png`; returns how many were drawn.

    Raises `ValueError` when the shards hold no pictures, and `ShardError` for damaged shards.
    """
    if n < 1:
        raise ValueError(f"n={n} must be at least 1.")
    chosen = _choose(paths, n, seed)
    if not chosen:
        raise ValueError(f"shards={[str(path) for path in paths]} hold no pictures. Check them with `data stats`.")
    columns = min(6, len(chosen))
    rows = -(-len(chosen) // columns)
    height = _CELL + _TEXT_LINES * _LINE + 10
    sheet = Image.new("RGB", (columns * (_CELL + _GAP) + _GAP, rows * (height + _GAP) + _GAP), _PAGE)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=13)
    for i, sample in enumerate(chosen):
        left = _GAP + (i % columns) * (_CELL + _GAP)
        top = _GAP + (i // columns) * (height + _GAP)
        draw.rounded_rectangle((left, top, left + _CELL, top + height), 8, fill=_CARD, outline=_EDGE)
        picture = _decode(sample)
        picture.thumbnail((_CELL - 20, _CELL - 20), Image.Resampling.LANCZOS)
        sheet.paste(picture, (left + (_CELL - picture.width) // 2, top + (_CELL - picture.height) // 2))
        caption = sample.parts.get("txt", b"").decode("utf-8", "replace").strip()
        for line, text in enumerate(_wrap(caption, font, _CELL - 16)):
            x = left + (_CELL - font.getlength(text)) / 2
            draw.text((x, top + _CELL + line * _LINE), text, fill=_INK, font=font)
    out_png = Path(out_png)
    out_png.parent.mkdir(parents=True, exist_ok=True)
    temporary = out_png.with_name(f".{out_png.name}.{os.getpid()}.tmp")
    try:
        sheet.save(temporary, "PNG")
        os.replace(temporary, out_png)
    finally:
        temporary.unlink(missing_ok=True)
    return len(chosen)


def _choose(paths: Sequence[Path], n: int, seed: int) -> list[Sample]:
    """Reservoir sampling: every sample equally likely, without holding all of them in memory."""
    rng = random.Random(seed)
    chosen: list[Sample] = []
    seen = 0
    for path in paths:
        for sample in iter_samples(Path(path)):
            if not any(name in sample.parts for name in IMAGE_EXTENSIONS):
                continue
            seen += 1
            if len(chosen) < n:
                chosen.append(sample)
            elif (place := rng.randrange(seen)) < n:
                chosen[place] = sample
    rng.shuffle(chosen)
    return chosen


def _decode(sample: Sample) -> Image.Image:
    data = next(sample.parts[name] for name in IMAGE_EXTENSIONS if name in sample.parts)
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG", "PNG", "WEBP"]) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise ValueError("too large")
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        # a broken picture shows as a gray field: the sheet is there to find such things
        return Image.new("RGB", (_CELL - 20, _CELL - 20), _EDGE)


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    shown = lines[:_TEXT_LINES]
    if len(lines) > _TEXT_LINES:
        shown[-1] = f"{shown[-1]} …"
    return [_cut(line, font, width) for line in shown]


def _cut(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    while len(line) > 1 and font.getlength(line) > width:
        line = line[:-2] + "…"
    return line
