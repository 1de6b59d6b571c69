"""Matches to look at: the picture of each set side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from mm_mhmoe_data.overlap.find import Match
from mm_mhmoe_data.overlap.prints import picture_bytes
from mm_mhmoe_data.pictures import decode_picture
from mm_mhmoe_data.shards import Shard
from mm_mhmoe_data.shards.index import IMAGE
from mm_mhmoe_data.shards.indexed import IndexedShards
from mm_mhmoe_data.whole_file import whole_file

_SIDE, _GAP, _LINE, _COLUMNS = 120, 14, 15, 4
_PAGE, _CARD, _INK = "#eef0f3", "#ffffff", "#22262b"


def draw_pairs(matches: Sequence[Match], out: Path, count: int = 24) -> int:
    """Draws `count` matches to a PNG, from the least like to the most like; returns how many were drawn."""
    nearest_last = sorted(matches, key=lambda match: (-match.changed, -match.phash_bits, match.key))
    # Half of them are the doubtful ones, the others are spread over the rest.
    doubtful, rest = nearest_last[: count // 2], nearest_last[count // 2 :]
    chosen = doubtful + rest[:: max(1, len(rest) // max(1, count - len(doubtful)))][: count - len(doubtful)]
    width, height = 2 * _SIDE + 3, _SIDE + 3 * _LINE + 8
    columns = max(1, min(_COLUMNS, len(chosen)))
    rows = max(1, -(-len(chosen) // columns))
    sheet = Image.new("RGB", (columns * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP), _PAGE)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for number, match in enumerate(chosen):
        left = _GAP + number % columns * (width + _GAP)
        top = _GAP + number // columns * (height + _GAP)
        draw.rectangle((left, top, left + width, top + height), fill=_CARD)
        for place, (shard, key) in enumerate([(match.shard, match.key), (match.other_shard, match.other_key)]):
            picture = ImageOps.contain(_picture(shard, key), (_SIDE, _SIDE))
            x = left + place * (_SIDE + 3)
            sheet.paste(picture, (x + (_SIDE - picture.width) // 2, top + (_SIDE - picture.height) // 2))
            draw.text((x + 3, top + _SIDE + 2), key[-18:], fill=_INK, font=font)
        how = f"{', '.join(match.kinds)}: {match.phash_bits} and {match.dhash_bits} bits,"
        draw.text((left + 3, top + _SIDE + _LINE + 2), how, fill=_INK, font=font)
        draw.text((left + 3, top + _SIDE + 2 * _LINE + 2), f"{match.changed:.0%} of cells", fill=_INK, font=font)
    with whole_file(out) as temporary:
        sheet.save(temporary, "PNG")
    return len(chosen)


def _picture(shard: str, key: str) -> Image.Image:
    samples = IndexedShards([Shard(shard)], IMAGE)
    content = picture_bytes(samples, list(samples.keys).index(key))
    return Image.fromarray(decode_picture(content).permute(1, 2, 0).contiguous().numpy())
