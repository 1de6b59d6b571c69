"""What a set of shards holds: counts, captions, picture sizes, and what is wrong with it."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from rich.table import Table

from .shards import Sample, ShardError, iter_samples

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
_MAX_PIXELS = 40_000_000
_PERCENTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True, kw_only=True)
class ShardStats:
    """Numbers of a set of shards. Caption lengths are in words; `problems` is one line per finding."""

    shards: int
    samples: int
    bytes: int
    mean_caption_words: float
    caption_percentiles: dict[int, int]
    image_sizes: dict[str, int]
    frequent_words: dict[str, int]
    distinct_captions: int
    problems: list[str] = field(default_factory=list)

    def table(self) -> Table:
        """The numbers as a table for the terminal."""
        table = Table("what", "value", title="Shards")
        table.add_row("shards", f"{self.shards:,}")
        table.add_row("samples", f"{self.samples:,}")
        table.add_row("bytes", f"{self.bytes:,}")
        table.add_row("distinct captions", f"{self.distinct_captions:,}")
        table.add_row("mean caption length", f"{self.mean_caption_words:.1f} words")
        spread = ", ".join(f"{percent}%: {words}" for percent, words in self.caption_percentiles.items())
        table.add_row("caption length, percentiles", spread or "-")
        table.add_row("picture sizes", _listing(self.image_sizes))
        table.add_row("most frequent words", _listing(self.frequent_words))
        table.add_row("problems", "\n".join(self.problems) or "none", style="red" if self.problems else None)
        return table


def shard_stats(paths: Sequence[Path], *, frequent: int = 15) -> ShardStats:
    """Read every sample of the shards. A damaged shard or sample is reported in `problems`, not raised."""
    problems: list[str] = []
    lengths: list[int] = []
    words: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    captions: set[str] = set()
    samples = size = 0
    for path in paths:
        try:
            size += Path(path).stat().st_size
            for sample in iter_samples(Path(path)):
                samples += 1
                problems.extend(f"{path}: {problem}" for problem in _problems(sample, sizes))
                caption = sample.parts.get("txt", b"").decode("utf-8", "replace").strip()
                found = re.findall(r"\w+", caption.lower())
                lengths.append(len(found))
                words.update(found)
                captions.add(caption)
        except (ShardError, OSError) as error:
            problems.append(str(error))
    lengths.sort()
    return ShardStats(
        shards=len(paths),
        samples=samples,
        bytes=size,
        mean_caption_words=sum(lengths) / len(lengths) if lengths else 0.0,
        caption_percentiles={p: lengths[(len(lengths) - 1) * p // 100] for p in _PERCENTILES} if lengths else {},
        image_sizes=dict(sizes.most_common(8)),
        frequent_words=dict(words.most_common(frequent)),
        distinct_captions=len(captions),
        problems=problems,
    )


def _problems(sample: Sample, sizes: Counter[str]) -> list[str]:
    found = []
    picture = next((sample.parts[name] for name in IMAGE_EXTENSIONS if name in sample.parts), None)
    if picture is None:
        found.append(f"sample {sample.key} has no picture")
    else:
        try:
            with Image.open(io.BytesIO(picture), formats=["JPEG", "PNG", "WEBP"]) as image:
                sizes[f"{image.width}x{image.height}"] += 1
                if image.width * image.height > _MAX_PIXELS:
                    found.append(f"sample {sample.key} has {image.width}x{image.height} pixels")
                else:
                    image.load()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            found.append(f"sample {sample.key} has an unreadable picture")
    if "txt" not in sample.parts:
        found.append(f"sample {sample.key} has no caption (.txt)")
    if "json" in sample.parts:
        try:
            json.loads(sample.parts["json"])
        except ValueError:
            found.append(f"sample {sample.key} has an unreadable .json")
    return found


def _listing(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in counts.items()) or "-"
