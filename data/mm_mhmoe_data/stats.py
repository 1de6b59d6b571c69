"""What a set of shards holds: counts, captions, picture sizes."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image
from rich.table import Table

from mm_mhmoe_data.pictures import FORMATS
from mm_mhmoe_data.shards import Shard
from mm_mhmoe_data.shards.index import IMAGE_EXTENSIONS
from mm_mhmoe_data.shards.indexed import IndexedShards

_PERCENTILES = (5, 25, 50, 75, 95)
_HEADER_BYTES = 1 << 16
"""Of a picture: the size stands here, unless its camera put more in front than most do."""


@dataclass(frozen=True, kw_only=True)
class ShardStats:
    """Numbers of a set of shards. Caption lengths are in words. unreadable: pictures whose header says no size."""

    shards: int
    samples: int
    bytes: int
    mean_caption_words: float
    caption_percentiles: dict[int, int]
    image_sizes: dict[str, int]
    frequent_words: dict[str, int]
    distinct_captions: int
    without_picture: int
    without_text: int
    unreadable: int

    def table(self) -> Table:
        """The numbers as a table for the terminal."""
        table = Table("what", "value", title="Shards")
        table.add_row("shards", f"{self.shards:,}")
        table.add_row("samples", f"{self.samples:,}")
        table.add_row("bytes", f"{self.bytes:,}")
        table.add_row("distinct captions", f"{self.distinct_captions:,}")
        table.add_row("mean caption length", f"{self.mean_caption_words:.1f} words")
        table.add_row("caption length, percentiles", listed_percentiles(self.caption_percentiles))
        table.add_row("picture sizes", _listing(self.image_sizes))
        table.add_row("most frequent words", _listing(self.frequent_words))
        for what, count in (
            ("samples without a picture", self.without_picture),
            ("samples without a text", self.without_text),
            ("unreadable pictures", self.unreadable),
        ):
            if count:
                table.add_row(what, f"{count:,} (see `data validate`)", style="red")
        return table


def shard_stats(shards: Sequence[Shard], *, frequent: int = 15) -> ShardStats:
    """Reads captions and the headers of pictures, by the index of each shard.

    Raises `ShardError` for damaged shards, which `mm-mhmoe data validate` looks into.
    """
    lengths: list[int] = []
    words: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    captions: set[str] = set()
    without_picture = unreadable = 0
    samples = IndexedShards(shards, needs=0)
    for i in range(len(samples)):
        members = samples.members(i)
        picture = next((members[name] for name in IMAGE_EXTENSIONS if name in members), None)
        if picture is None:
            without_picture += 1
        elif size := _size(samples, i, *picture):
            sizes[size] += 1
        else:
            unreadable += 1
        if "txt" in members and members["txt"][1]:
            caption = samples.read(i, *members["txt"]).decode("utf-8", "replace").strip()
            found = re.findall(r"\w+", caption.lower())
            lengths.append(len(found))
            words.update(found)
            captions.add(caption)
    return ShardStats(
        shards=len(shards),
        samples=len(samples),
        bytes=samples.size,
        mean_caption_words=sum(lengths) / len(lengths) if lengths else 0.0,
        caption_percentiles=percentiles(lengths),
        image_sizes=dict(sizes.most_common(8)),
        frequent_words=dict(words.most_common(frequent)),
        distinct_captions=len(captions),
        without_picture=without_picture,
        without_text=len(samples) - len(lengths),
        unreadable=unreadable,
    )


def percentiles(lengths: Sequence[int]) -> dict[int, int]:
    """Some percentiles of lengths in any order; none of nothing."""
    ranked = sorted(lengths)
    return {percent: ranked[(len(ranked) - 1) * percent // 100] for percent in _PERCENTILES} if ranked else {}


def listed_percentiles(found: dict[int, int]) -> str:
    return ", ".join(f"{percent}%: {length}" for percent, length in found.items()) or "-"


def _size(samples: IndexedShards, index: int, offset: int, size: int) -> str | None:
    """Width and height from the first bytes of a picture, or all of them; None if they do not say."""
    for count in sorted({min(size, _HEADER_BYTES), size}):
        try:
            with Image.open(io.BytesIO(samples.read(index, offset, count)), formats=FORMATS) as image:
                return f"{image.width}x{image.height}"
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            continue
    return None


def _listing(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in counts.items()) or "-"
