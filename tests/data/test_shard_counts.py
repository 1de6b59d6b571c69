"""Lists beside shards that say another number of samples than the shards hold. Truth: what was written."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import fsspec
import pytest
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.shards import Sample, ShardError, write_shards


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    samples = [Sample(key=f"{i}", parts={"jpg": b"j", "txt": b"t" if i else b""}) for i in range(5)]
    write_shards(samples, tmp_path, 0, 2)
    return tmp_path


def _write_lists(folder: Path, third: int) -> None:
    """The third shard holds one sample. The first holds two, of which one has no text: both are counted."""
    lengths = [2, 2, third]
    names = [f"0000{i}.tar" for i in range(3)]
    (folder / "sizes.json").write_text(json.dumps(dict(zip(names, lengths, strict=True))))
    (folder / "_info.json").write_text(
        json.dumps({"splits": {"train": {"filenames": names, "shard_lengths": lengths}}})
    )
    for i in range(3):
        (folder / f"0000{i}_stats.json").write_text(json.dumps({"count": 9, "successes": lengths[i]}))


def test_right_numbers_say_nothing(folder: Path) -> None:
    _write_lists(folder, 1)
    (folder / "__len__").write_text("5")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ShardDataset(f"{folder}#train").counts == [1, 2, 1]


@pytest.mark.parametrize("kept", ["sizes.json", "_info.json", "00002_stats.json"])
def test_another_number_is_refused_with_both(folder: Path, kept: str) -> None:
    _write_lists(folder, 7)
    for path in folder.glob("*.json"):
        if path.name != kept:
            path.unlink()
    with pytest.raises(ShardError, match=rf"00002\.tar: it holds 1 samples, but {folder}/{kept} says 7"):
        ShardDataset(folder)


def test_another_total_is_a_warning_with_both(folder: Path) -> None:
    (folder / "__len__").write_text("6\n")
    with pytest.warns(UserWarning, match=r"__len__ says '6' samples, but the shards hold 5"):
        ShardDataset(folder)
    with warnings.catch_warnings():  # it says nothing about some of the shards
        warnings.simplefilter("error")
        ShardDataset(folder / "00001.tar")


def test_a_list_that_cannot_be_read_is_a_warning(folder: Path) -> None:
    (folder / "sizes.json").write_text('{"00000.tar": 2')
    with pytest.warns(UserWarning, match=r"sizes\.json cannot be read .*not compared"):
        ShardDataset(folder)


def test_sizes_are_compared_on_other_machines_too(folder: Path) -> None:
    _write_lists(folder, 7)
    files = fsspec.filesystem("memory")
    for name in ("00002.tar", "sizes.json"):
        files.pipe(f"/counts/{name}", (folder / name).read_bytes())
    with pytest.raises(ShardError, match=r"holds 1 samples, but memory://.*counts/sizes\.json says 7"):
        ShardDataset("memory://counts")
    files.rm("/counts", recursive=True)
