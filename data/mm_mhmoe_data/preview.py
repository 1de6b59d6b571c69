"""A contact sheet: some samples of a data set and what masks hide of them, to look at before training."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from .masked_view import MaskOptions, Word, masked_patches, masked_words
from .pictures import decode_picture
from .shards import Sample, Shard
from .shards.index import IMAGE, IMAGE_EXTENSIONS
from .shards.indexed import IndexedShards
from .transforms import EvalTransform
from .whole_file import whole_file

_SIDE = 148
_GAP, _EDGE_GAP = 16, 10
_TEXT_LINES = {1: 3, 2: 2}  # by the pictures side by side: the wider card needs fewer
_LINE = 18
_PAGE, _CARD, _EDGE, _INK = "#eef0f3", "#ffffff", "#d5d9df", "#22262b"
_BOX, _BOX_INK = "#cdd2d9", "#6b727c"
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def contact_sheet(shards: Sequence[Shard], out_png: Path, masks: MaskOptions, n: int = 24, seed: int = 0) -> int:
    """Draw `n` samples chosen by `seed` to `out_png`; returns how many were drawn.

    Each has its picture, the square that an encoder takes with hidden patches gray, and the caption with hidden pieces
    boxed. A ratio of 0 leaves the masks out.

    Raises `ValueError` when the shards hold no pictures, and `ShardError` for damaged shards.
    """
    if n < 1:
        raise ValueError(f"n={n} must be at least 1.")
    if masks.grid > _SIDE:
        raise ValueError(f"grid={masks.grid} has patches too small to draw; at most {_SIDE} fit on the sheet.")
    chosen = _choose(shards, n, seed)
    if not chosen:
        raise ValueError(f"shards={[str(shard) for shard in shards]} hold no pictures. Check them with `data stats`.")
    across = 2 if masks.image else 1
    width = across * (_SIDE + _EDGE_GAP) + _EDGE_GAP
    lines = _TEXT_LINES[across]
    height = _SIDE + lines * _LINE + 3 * _EDGE_GAP
    columns = min(6 // across, len(chosen))
    rows = -(-len(chosen) // columns)
    sheet = Image.new("RGB", (columns * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP), _PAGE)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=13)
    for i, sample in enumerate(chosen):
        left, top = _GAP + (i % columns) * (width + _GAP), _GAP + (i // columns) * (height + _GAP)
        draw.rounded_rectangle((left, top, left + width, top + height), 8, fill=_CARD, outline=_EDGE)
        for place, view in enumerate(_views(sample, masks)):
            x = left + _EDGE_GAP + place * (_SIDE + _EDGE_GAP) + (_SIDE - view.width) // 2
            sheet.paste(view, (x, top + _EDGE_GAP + (_SIDE - view.height) // 2))
        caption = sample.parts.get("txt", b"").decode("utf-8", "replace").strip()
        words = masked_words(caption, sample.key, masks)
        corner = left + _EDGE_GAP, top + _SIDE + 2 * _EDGE_GAP
        _write(draw, words, font, corner, width - 2 * _EDGE_GAP, lines)
    with whole_file(Path(out_png)) as temporary:
        sheet.save(temporary, "PNG")
    return len(chosen)


def _choose(shards: Sequence[Shard], n: int, seed: int) -> list[Sample]:
    """Samples with a picture, each as likely as any other."""
    samples = IndexedShards(shards, IMAGE)
    numbers = random.Random(seed).sample(range(len(samples)), min(n, len(samples)))
    return [
        Sample(
            key=samples.key(i),
            parts={name: samples.read(i, *place) for name, place in samples.members(i).items()},
        )
        for i in numbers
    ]


def _views(sample: Sample, masks: MaskOptions) -> list[Image.Image]:
    """The whole picture, and by option the masked square."""
    content = next(sample.parts[name] for name in IMAGE_EXTENSIONS if name in sample.parts)
    try:
        picture_CHW = decode_picture(content, at_least=_SIDE)
    except ValueError:  # a broken picture shows as a gray field: the sheet is there to find such things
        return [Image.new("RGB", (_SIDE, _SIDE), _EDGE)] * (2 if masks.image else 1)
    side = _SIDE // masks.grid * masks.grid
    whole = ImageOps.contain(_image(picture_CHW), (side, side))
    if not masks.image:
        return [whole]
    square_CHW = EvalTransform(side)(picture_CHW)
    return [whole, _image(masked_patches(square_CHW, sample.key, masks))]


def _image(picture_CHW: Tensor) -> Image.Image:
    return Image.fromarray(picture_CHW.permute(1, 2, 0).contiguous(memory_format=torch.contiguous_format).numpy())


def _write(
    draw: ImageDraw.ImageDraw, words: Sequence[Word], font: _Font, corner: tuple[int, int], width: int, lines: int
) -> None:
    """Words in lines of at most `width`, hidden pieces in boxes; what does not fit ends in an ellipsis."""
    space, ellipsis = font.getlength(" "), font.getlength("…")
    x, line = 0.0, 0
    for number, word in enumerate(words):
        length = sum(font.getlength(piece) for piece, _ in word)
        if x and x + length > width:
            x, line = 0.0, line + 1
        is_last_place = line == lines - 1 and number < len(words) - 1 and x + length + space + ellipsis > width
        if line == lines or (is_last_place and x):
            end = corner[0] + min(x if line < lines else width, width - ellipsis), corner[1] + (lines - 1) * _LINE
            draw.text(end, "…", fill=_INK, font=font)
            return
        for piece, hides in word:
            shown = _cut(piece, font, width - x)
            left, top, right = corner[0] + x, corner[1] + line * _LINE, corner[0] + x + font.getlength(shown)
            if hides:
                draw.rounded_rectangle((left - 1, top - 1, right, top + _LINE - 3), 3, fill=_BOX)
            draw.text((left, top), shown, fill=_BOX_INK if hides else _INK, font=font)
            x += font.getlength(shown)
        x += space


def _cut(piece: str, font: _Font, width: float) -> str:
    while len(piece) > 1 and font.getlength(piece) > width:
        piece = piece[:-2] + "…"
    return piece
