"""The contact sheet is a picture of the asked size, and the same seed gives the same sheet. The samples are made up."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from mm_mhmoe_data.masked_view import MaskOptions
from mm_mhmoe_data.preview import contact_sheet
from mm_mhmoe_data.shards import Sample, Shard, write_shards
from PIL import Image

MASKS = MaskOptions(image=0.4, text=0.5, grid=14, seed=0)
NO_MASKS = MaskOptions(image=0, text=0, grid=14, seed=0)


@pytest.fixture
def shards(tmp_path: Path) -> list[Shard]:
    samples = []
    for i in range(9):
        buffer = io.BytesIO()
        Image.new("RGB", (40, 20 + i), (i * 25, 90, 200)).save(buffer, "PNG")
        text = f"caption {i} " + "that-has-one-extremely-long-word-without-a-break and more words " * (i % 3)
        samples.append(Sample(key=f"{i}", parts={"png": buffer.getvalue(), "txt": text.encode()}))
    samples.append(Sample(key="broken", parts={"png": b"broken", "txt": b"broken"}))
    return [Shard(str(path)) for path, _ in write_shards(samples, tmp_path / "shards", 0, 4)]


def test_sheet_depends_on_the_seed_only(shards: list[Shard], tmp_path: Path) -> None:
    assert contact_sheet(shards, tmp_path / "out" / "a.png", MASKS, n=7, seed=1) == 7
    contact_sheet(shards, tmp_path / "b.png", MASKS, n=7, seed=1)
    contact_sheet(shards, tmp_path / "c.png", MASKS, n=7, seed=2)
    first = (tmp_path / "out" / "a.png").read_bytes()
    assert first == (tmp_path / "b.png").read_bytes() != (tmp_path / "c.png").read_bytes()
    with Image.open(tmp_path / "b.png") as sheet:
        assert sheet.width > 1000 and sheet.height > 600  # three columns, three rows
        assert len(sheet.getcolors(1_000_000) or []) > 20


def test_all_samples_when_fewer_than_asked(shards: list[Shard], tmp_path: Path) -> None:
    assert contact_sheet(shards, tmp_path / "a.png", NO_MASKS, n=100) == 10


def test_nothing_to_show(tmp_path: Path) -> None:
    path = write_shards([Sample(key="a", parts={"txt": b"x"})], tmp_path, 0, 1)[0][0]
    with pytest.raises(ValueError, match="hold no pictures"):
        contact_sheet([Shard(str(path))], tmp_path / "a.png", MASKS)
    with pytest.raises(ValueError, match="n=0"):
        contact_sheet([Shard(str(path))], tmp_path / "a.png", MASKS, n=0)
    assert not (tmp_path / "a.png").exists()


def test_masks_are_seen(shards: list[Shard], tmp_path: Path) -> None:
    """Without masks there is one picture a card, and no gray of a box behind a word."""
    box = (0xCD, 0xD2, 0xD9)
    for masks, width, boxes in ((MASKS, 3 * (326 + 16) + 16, True), (NO_MASKS, 6 * (168 + 16) + 16, False)):
        contact_sheet(shards, tmp_path / "a.png", masks)
        with Image.open(tmp_path / "a.png") as sheet:
            assert sheet.width == width
            assert (box in {colour for _, colour in sheet.getcolors(1_000_000) or []}) == boxes


def test_a_grid_too_fine_to_draw_is_refused(shards: list[Shard], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="grid=149"):
        contact_sheet(shards, tmp_path / "a.png", MaskOptions(image=0.4, text=0.5, grid=149, seed=0))
