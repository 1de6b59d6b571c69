from __future__ import annotations

from pathlib import Path

import pytest
from mm_mhmoe_data.config import DataConfig

from mm_mhmoe.commands.sources import data_path, own_shards


def test_shipped_shards_are_found_also_among_others() -> None:
    train = data_path("demo:train")
    assert Path(train).is_dir() and list(Path(train).glob("*.tar"))
    assert data_path("my-data/train::demo:train::x.tar") == f"my-data/train::{train}::x.tar"
    assert data_path("my-data") == "my-data"
    with pytest.raises(ValueError, match="demo:trian is not part of the demo data"):
        data_path("a::demo:trian")


def test_shards_of_single_streams_too() -> None:
    data = own_shards(DataConfig(image_shards="demo:val", weights="1::2"))
    assert data == DataConfig(image_shards=data_path("demo:val"), weights="1::2")
