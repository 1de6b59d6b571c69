"""The contact sheet is a picture of the asked size, and the same seed gives the same sheet."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from mm_mhmoe_data.preview import contact_sheet
from mm_mhmoe_data.shards import Sample, write_shards
from PIL import Image


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    samples = []
    for i in range(9):
        buffer = io.BytesIO()
        Image.new("RGB", (40, 20 + i), (i * 25, 90, 200)).save(buffer, "PNG")
        text = f"caption {i} " + "that-has-one-extremely-long-word-without-a-break and more words " * (i % 3)
        samples.append(Sample(key=f"{i}", parts={"png": buffer.getvalue(), "txt": text.encode()}))
    samples.append(Sample(key="broken", parts={"png": b"broken", "txt": b"broken"}))
    return [path for path, _ in write_shards(samples, tmp_path / "shards", 0, 4)]


def test_sheet_depends_on_the_seed_only(shards: list[Path], tmp_path: Path) -> None:
    assert contact_sheet(shards, tmp_path / "out" / "a.png", n=7, seed=1) == 7
    contact_sheet(shards, tmp_path / "b.png", n=7, seed=1)
    contact_sheet(shards, tmp_path / "c.png", n=7, seed=2)
    first = (tmp_path / "out" / "a.png").read_bytes()
    assert first == (tmp_path / "b.png").read_bytes() != (tmp_path / "c.png").read_bytes()
    with Image.open(tmp_path / "b.png") as sheet:
        assert sheet.width > sheet.height > 300  # six columns, two rows
        assert len(sheet.getcolors(1_000_000) or []) > 20


def test_all_samples_when_fewer_than_asked(shards: list[Path], tmp_path: Path) -> None:
    assert contact_sheet(shards, tmp_path / "a.png", n=100) == 10


def test_nothing_to_show(tmp_path: Path) -> None:
    path = write_shards([Sample(key="a", parts={"txt": b"x"})], tmp_path, 0, 1)[0][0]
    with pytest.raises(ValueError, match="hold no pictures"):
        contact_sheet([path], tmp_path / "a.png")
    with pytest.raises(ValueError, match="n=0"):
        contact_sheet([path], tmp_path / "a.png", n=0)
    assert not (tmp_path / "a.png").exists()
