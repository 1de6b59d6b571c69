"""Statistics count what is there. Pictures are plain colours."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from mm_mhmoe_data.shards import Sample, Shard, ShardError, write_shards
from mm_mhmoe_data.stats import shard_stats
from mm_mhmoe_data.token_lengths import token_lengths
from mm_mhmoe_data.tokenizer import Tokenizer, train_tokenizer
from PIL import Image
from rich.console import Console

from mm_mhmoe import cli
from mm_mhmoe.commands import data


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
    stats = shard_stats([Shard(str(path)) for path in paths])
    assert (stats.shards, stats.samples, stats.distinct_captions) == (2, 4, 3)
    assert stats.mean_caption_words == 7 / 4
    assert stats.caption_percentiles[50] == 1 and stats.caption_percentiles[5] == 1
    assert stats.image_sizes == {"8x8": 2, "9x8": 2}
    assert stats.frequent_words == {"bird": 4, "a": 2, "red": 1}
    assert stats.bytes == sum(path.stat().st_size for path in paths)
    assert (stats.without_picture, stats.without_text, stats.unreadable) == (0, 0, 0)
    console = Console(record=True, width=120, file=io.StringIO())
    console.print(stats.table())
    assert "1.8 words" in console.export_text()


def test_what_is_missing_is_counted(tmp_path: Path) -> None:
    samples = [
        Sample(key="good", parts={"jpg": _jpeg(8, 8), "txt": b"fine", "json": b"{}"}),
        Sample(key="broken", parts={"jpg": b"not a picture", "txt": b"x"}),
        Sample(key="textless", parts={"jpg": _jpeg(8, 8)}),
        Sample(key="silent", parts={"jpg": _jpeg(8, 8), "txt": b""}),
        Sample(key="blind", parts={"txt": b"no picture"}),
    ]
    stats = shard_stats([Shard(str(write_shards(samples, tmp_path, 0, 10)[0][0]))])
    assert (stats.samples, stats.without_picture, stats.without_text, stats.unreadable) == (5, 1, 2, 1)
    assert (stats.image_sizes, stats.distinct_captions) == ({"8x8": 3}, 3)


def test_a_size_behind_much_else_is_found(tmp_path: Path) -> None:
    """Cameras put previews of up to 64 KiB a piece in front of a picture's size."""
    comment = b"\xff\xfe" + (65000).to_bytes(2, "big") + bytes(64998)
    picture = _jpeg(8, 6)
    parts = {"jpg": picture[:2] + comment * 3 + picture[2:], "txt": b"x"}
    assert shard_stats(
        [Shard(str(write_shards([Sample(key="a", parts=parts)], tmp_path, 0, 1)[0][0]))]
    ).image_sizes == {"8x6": 1}


def test_damaged_shards_are_refused(tmp_path: Path) -> None:
    whole = write_shards([Sample(key="a", parts={"jpg": _jpeg(8, 8), "txt": b"x"})], tmp_path, 0, 10)[0][0]
    os.truncate(whole, 1536)
    with pytest.raises(ShardError, match="cut"):
        shard_stats([Shard(str(whole))])


def test_no_samples_is_not_a_crash() -> None:
    stats = shard_stats([])
    assert stats.samples == 0 and stats.mean_caption_words == 0.0
    stats.table()


def test_cut_captions_are_counted_with_begin_and_end(tmp_path: Path) -> None:
    """Against one caption after the other: whole, and as the model reads it."""
    captions = ["a red bird", "bird", "a bird on a red house by a red lake", "a\nb\nc\nd\ne"]
    words = Tokenizer(train_tokenizer(captions, tmp_path / "words", vocab_size=40))
    samples = [Sample(key=f"{i}", parts={"txt": text.encode()}) for i, text in enumerate(captions)]
    samples.append(Sample(key="bad", parts={"txt": b"\xff\xfe"}))
    shards = [Shard(str(write_shards(samples, tmp_path / "shards", 0, 10)[0][0]))]
    whole = [len(words.encode(text, 1000)) for text in captions]
    for length in (min(whole), max(whole) - 1, max(whole)):
        lost = [text for text in captions if words.encode(text, length) != words.encode(text, 1000)]
        found = token_lengths(shards, words, max_length=length)
        assert (found.captions, found.cut, found.percentiles[50]) == (4, len(lost), sorted(whole)[1])
    assert found.cut == 0 and token_lengths(shards, words, max_length=min(whole)).cut == 3
    assert token_lengths(shards, words, max_length=64, captions="lines").captions == 3 + 5  # five lines are captions


def test_the_command_says_which_share_is_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = train_tokenizer(["a red bird"], tmp_path, vocab_size=20).parent
    cli.run(["data", "stats", "--shards=demo:val", f"--tokenizer={words}", "--max_length=8"])
    said = " ".join(capsys.readouterr().out.split())
    assert "cut at 8 tokens" in said and " of 250 (" in said
    with pytest.raises(ValueError, match="max_length=2"):
        data.stats("demo:val", words, max_length=2)
