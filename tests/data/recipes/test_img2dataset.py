"""Folders as img2dataset writes them: its tars are made by webdataset's writer, as there, with real drawings."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import webdataset
from mm_mhmoe_data.recipes.img2dataset import PairFilter, plan_img2dataset
from mm_mhmoe_data.recipes.research_options import PictureOptions
from PIL import Image


def pair(key: str, content: bytes, caption: str, **more: Any) -> dict[str, Any]:
    facts = {"url": f"https://x/{key}", "caption": caption, "key": key, "status": "success", "error_message": None}
    facts |= {"width": 96, "height": 96, "original_width": 640, "original_height": 480, "sha256": "0"}
    return {"__key__": key, "jpg": content, "txt": caption, "json": json.dumps(facts | more, indent=4)}


def write(root: Path, shard: int, pairs: list[dict[str, Any]], successes: int | None = None) -> Path:
    root.mkdir(exist_ok=True)
    path = root / f"{shard:05d}.tar"
    with webdataset.TarWriter(str(path)) as writer:
        for row in pairs:
            writer.write(row)
    stats = {"count": 10, "successes": len(pairs) if successes is None else successes, "failed_to_download": 3}
    path.with_name(f"{shard:05d}_stats.json").write_text(json.dumps(stats))
    path.with_name(f"{shard:05d}.parquet").write_bytes(b"not read")
    return path


@pytest.fixture
def root(tmp_path: Path, photo) -> Path:
    root = tmp_path / "cc3m"
    write(root, 0, [pair("000000003", photo(0), "a red owl"), pair("000000007", photo(1), "a cow ")])
    write(root, 4, [pair("000040002", photo(2), "a hen")])
    return root


def test_pairs_are_numbered_anew(root: Path, build, facts, photo) -> None:
    built = build(plan_img2dataset(root, PictureOptions(), PairFilter()))
    found = built.by_key("train")
    assert list(found) == ["000000000", "000000001", "000010000"]
    assert found["000000001"].parts["jpg"] == photo(1) and found["000000001"].parts["txt"] == b"a cow"
    assert facts(found["000010000"]) | {"key": "000010000", "source_key": "000040002", "sha256": "0"} == facts(
        found["000010000"]
    )
    assert facts(found["000010000"])["original_width"] == 640  # of the picture that img2dataset downloaded
    assert built.manifest["dropped"] == {} and built.manifest["counts"] == {
        "shards": 2,
        "shards without a stats file": 0,
    }


def test_what_is_left_out_has_a_reason(root: Path, photo, build) -> None:
    rows = [
        pair("000050000", photo(3), "fine"),
        pair("000050001", b"GIF89a no", "broken"),
        pair("000050002", photo(4), ""),
        pair("000050003", photo(5), "failed", status="failed_to_download"),
        pair("000050004", photo(6), "odd") | {"json": "[1]"},
        {"__key__": "000050005", "txt": "no picture", "json": "{}"},
        pair("000050006", photo(7), "") | {"txt": b"\xff\xfe"},
    ]
    write(root, 5, rows)
    built = build(plan_img2dataset(root, PictureOptions(), PairFilter()))
    assert built.left_out() == [
        ("unreadable picture", "00005.tar: 000050001"),
        ("empty caption", "00005.tar: 000050002"),
        ("status is not success", "00005.tar: 000050003: failed_to_download"),
        (".json is not an object", "00005.tar: 000050004"),
        ("no picture", "00005.tar: 000050005"),
        ("caption is not UTF-8", "00005.tar: 000050006"),
    ]
    assert len(built.by_key("train")) == 4


@pytest.mark.parametrize(
    ("pairs", "reasons"),
    [
        (PairFilter(min_side=96), []),
        (PairFilter(min_side=97), ["side of fewer than 97 pixels"] * 3),
        (PairFilter(max_caption=5), ["caption of more than 5 characters"] * 2),
        (PairFilter(min_caption=6), ["caption of fewer than 6 characters"] * 2),
        (PairFilter(min_caption=0, max_aspect=1.1), ["more than 1.1 times as long as wide"]),
    ],
)
def test_filters(root: Path, photo, build, pairs: PairFilter, reasons: list[str]) -> None:
    wide = io.BytesIO()
    Image.open(io.BytesIO(photo(9))).resize((120, 100)).save(wide, "JPEG")
    write(root, 9, [pair("000090000", wide.getvalue(), "a wide picture")])
    built = build(plan_img2dataset(root, PictureOptions(), pairs))
    assert [reason for reason, _ in built.left_out()] == reasons


def test_the_aspect_counts_in_both_directions() -> None:
    pairs = PairFilter(max_aspect=2)
    assert [pairs.objection("x", *size) is None for size in ((200, 100), (100, 200), (201, 100), (100, 201))] == [
        True,
        True,
        False,
        False,
    ]


def test_a_cut_shard_gives_what_is_before_the_cut(root: Path, build) -> None:
    path = root / "00000.tar"
    path.write_bytes(path.read_bytes()[: -4096 - 10240])
    built = build(plan_img2dataset(root, PictureOptions(), PairFilter()))
    assert "000010000" in built.by_key("train")
    reasons = dict(built.left_out())
    assert str(root) not in reasons["rest of a damaged shard"] and "00000.tar" in reasons["rest of a damaged shard"]
    assert "2 written" in reasons["shard with another count than its stats file"]


def test_counts_are_held_against_the_stats_files(root: Path, photo, build) -> None:
    write(root, 4, [pair("000040002", photo(2), "a hen")], successes=3)
    (root / "00000_stats.json").unlink()
    built = build(plan_img2dataset(root, PictureOptions(), PairFilter()))
    assert built.left_out() == [("shard with another count than its stats file", "00004.tar: 1 pairs, 3 written")]
    assert built.manifest["counts"]["shards without a stats file"] == 1


def test_a_trial_takes_a_few_shards(root: Path, build) -> None:
    built = build(plan_img2dataset(root, PictureOptions(), PairFilter(), max_shards=1))
    assert len(built.by_key("train")) == 2


def test_a_folder_without_tars_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no \.tar file.*--output_format webdataset"):
        plan_img2dataset(tmp_path, PictureOptions(), PairFilter())


@pytest.mark.parametrize("change", [{"max_aspect": 0.5}, {"max_caption": 0}])
def test_unusable_filters_are_named(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        PairFilter(**change)
