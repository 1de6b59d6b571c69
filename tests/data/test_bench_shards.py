"""Truth: the pictures of the folder. They are made up."""

from __future__ import annotations

from pathlib import Path

import pytest
from mm_mhmoe_data.bench_shards import make_bench_shards
from mm_mhmoe_data.pictures import decode_picture
from mm_mhmoe_data.shards import iter_samples
from PIL import Image


def test_pictures_become_square_jpegs_with_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "pictures" / "deep"
    folder.mkdir(parents=True)
    Image.new("RGB", (90, 60), (200, 30, 30)).save(folder / "red-house_one.png")
    Image.new("RGB", (60, 60), (30, 30, 200)).save(folder / "sea.jpg")
    (folder / "broken.png").write_bytes(b"\x89PNG")
    (folder / "notes.txt").write_text("no picture")
    Image.new("RGB", (900, 20)).save(folder / "a-banner.png")
    out = make_bench_shards(tmp_path / "pictures", tmp_path / "out", side=32)
    samples = list(iter_samples(out / "00000.tar"))
    assert [(sample.key, sample.parts["txt"].decode()) for sample in samples] == [
        ("000000000", "red house one"),
        ("000000001", "sea"),
    ]
    for sample, colour in zip(samples, ([200, 30, 30], [30, 30, 200]), strict=True):
        picture = decode_picture(sample.parts["jpg"])
        assert picture.shape == (3, 32, 32)
        assert all(abs(a - b) < 8 for a, b in zip(picture[:, 16, 16].tolist(), colour, strict=True))


def test_shards_are_made_once(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert make_bench_shards(tmp_path / "nowhere", tmp_path / "out") == tmp_path / "out"


def test_folders_without_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a folder"):
        make_bench_shards(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no JPEG, PNG or WebP"):
        make_bench_shards(tmp_path / "empty", tmp_path / "out")
