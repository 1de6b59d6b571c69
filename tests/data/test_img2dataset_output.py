"""A committed output of img2dataset 1.47.0 (files/README.md), read as it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.shards import ShardError
from mm_mhmoe_data.stats import shard_stats

from mm_mhmoe.commands.sources import data_path

OUTPUT = Path(__file__).parent / "files" / "img2dataset"


def test_pairs_and_pictures_are_those_that_were_downloaded() -> None:
    demo, pairs, pictures = ShardDataset(data_path("demo:val")), ShardDataset(OUTPUT), ShardDataset(OUTPUT, "images")
    assert (len(pairs), pairs.left_out, len(pictures)) == (11, 1, 12)  # one has an empty .txt
    assert sorted(pairs.caption(i) for i in range(11)) == sorted(demo.caption(i) for i in range(12) if i != 3)
    for i in range(12):
        metadata = pictures.metadata(i)
        assert (metadata["key"], metadata["status"]) == (pictures.keys[i], "success")
        assert pictures.picture(i).shape == (3, metadata["height"], metadata["width"])
    assert shard_stats(sorted(OUTPUT.glob("*.tar"))).problems == []


def test_its_own_counts_are_compared(tmp_path: Path) -> None:
    out = shutil.copytree(OUTPUT, tmp_path / "out")
    stats = out / "00001_stats.json"
    stats.write_text(json.dumps({**json.loads(stats.read_text()), "successes": 8}))
    with pytest.raises(ShardError, match=r"00001\.tar: it holds 6 samples, but .*00001_stats\.json says 8"):
        ShardDataset(out)
