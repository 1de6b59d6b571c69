"""Statistics count what is there and report what is broken."""

from __future__ import annotations

import io
from pathlib import Path

from mm_mhmoe_data.shards import Sample, write_shards
from mm_mhmoe_data.stats import shard_stats
from PIL import Image
from rich.console import Console


def _jpeg(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, "JPEG")
    return buffer.getvalue()


def test_numbers_of_two_shards(tmp_path: Path) -> None:
    captions = ["a red bird", "a bird", "bird", "bird"]
    samples = [
        Sample(key=f"{i}", parts={"jpg": _jpeg(8 + i % 2, 8), "txt": text.encode()}) for i, text in enumerate(captions)
    ]
    paths = [path for path, _ in write_shards(samples, tmp_path, 0, 2)]
    stats = shard_stats(paths)
    assert (stats.shards, stats.samples, stats.distinct_captions) == (2, 4, 3)
    assert stats.mean_caption_words == 7 / 4
    assert stats.caption_percentiles[50] == 1 and stats.caption_percentiles[5] == 1
    assert stats.image_sizes == {"8x8": 2, "9x8": 2}
    assert stats.frequent_words == {"bird": 4, "a": 2, "red": 1}
    assert stats.bytes == sum(path.stat().st_size for path in paths)
    assert stats.problems == []
    console = Console(record=True, width=120, file=io.StringIO())
    console.print(stats.table())
    assert "1.8 words" in console.export_text()


def test_damage_is_reported_and_the_rest_still_counted(tmp_path: Path) -> None:
    samples = [
        Sample(key="good", parts={"jpg": _jpeg(8, 8), "txt": b"fine", "json": b"{}"}),
        Sample(key="broken", parts={"jpg": b"not a picture", "txt": b"x", "json": b"{"}),
        Sample(key="textless", parts={"jpg": _jpeg(8, 8)}),
        Sample(key="blind", parts={"txt": b"no picture"}),
    ]
    whole = write_shards(samples, tmp_path, 0, 10)[0][0]
    cut = tmp_path / "cut.tar"
    cut.write_bytes(whole.read_bytes()[:1536])
    stats = shard_stats([whole, cut, tmp_path / "missing.tar"])
    text = "\n".join(stats.problems)
    for part in (
        "broken has an unreadable picture",
        "broken has an unreadable .json",
        "textless has no caption",
        "blind has no picture",
        "cut.tar",
        "missing.tar",
    ):
        assert part in text
    assert stats.samples == 4


def test_no_samples_is_not_a_crash() -> None:
    stats = shard_stats([])
    assert stats.samples == 0 and stats.mean_caption_words == 0.0
    stats.table()
