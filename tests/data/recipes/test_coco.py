"""COCO and Karpathy's splits on a small folder that is laid out like the originals; the captions are made up.

What is written is read by webdataset in the way that CLIP_benchmark reads a retrieval set.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import webdataset
from mm_mhmoe_data.recipes.coco import EXPECTED, plan_coco
from mm_mhmoe_data.recipes.research_options import BuildOptions, PictureOptions

OPTIONS = BuildOptions(samples_per_shard=2)


def entry(number: int, split: str, captions: list[str]) -> dict[str, Any]:
    folder = "train2014" if split == "train" else "val2014"
    return {
        "filepath": folder,
        "filename": f"COCO_{folder}_{number:012d}.jpg",
        "cocoid": number,
        "imgid": number,
        "split": split,
        "sentids": [number * 10 + i for i in range(len(captions))],
        "sentences": [
            {"tokens": text.split(), "raw": text, "imgid": number, "sentid": number * 10 + i}
            for i, text in enumerate(captions)
        ],
    }


ROWS = [
    entry(9, "train", ["A red owl.", "An owl\u2028sits ", "owl"]),
    entry(391895, "restval", ["A cow."]),
    entry(30, "train", ["A hen.", "", "\ud800 broken"]),
    entry(42, "val", ["A cat."]),
    entry(73, "test", ["A dog.", "One dog."]),
]


@pytest.fixture
def root(tmp_path: Path, put, photo) -> Path:
    root = tmp_path / "coco"
    put(root / "dataset_coco.json", {"dataset": "coco", "images": ROWS})
    for number, row in enumerate(ROWS):
        put(root / row["filepath"] / row["filename"], photo(number))
    return root


def test_every_picture_is_in_the_split_that_the_papers_use(root: Path, build, facts, photo) -> None:
    built = build(plan_coco(root, OPTIONS))
    found = {split: built.by_key(split) for split in ("train", "val", "test")}
    assert {split: list(rows) for split, rows in found.items()} == {
        "train": ["000000009", "000391895", "000000030"],  # restval is trained on
        "val": ["000000042"],
        "test": ["000000073"],
    }
    owl = found["train"]["000000009"]
    assert owl.parts["jpg"] == photo(0)  # the very bytes
    assert facts(owl)["captions"] == ["A red owl.", "An owl\u2028sits ", "owl"]  # as they were written
    assert facts(owl) | {"image_id": 9, "split": "train", "sentids": [90, 91, 92], "width": 96} == facts(owl)
    assert facts(found["train"]["000391895"])["split"] == "restval"
    assert built.manifest["counts"] == {"train captions": 7, "val captions": 1, "test captions": 2}
    assert built.manifest["expected"]["train"] == {"expected": 113_287, "found": 3}
    assert built.manifest["dropped"] == {}


def test_clip_benchmark_reads_it(root: Path, build) -> None:
    built = build(plan_coco(root, OPTIONS))
    assert (built.out / "dataset_type.txt").read_text().strip().lower() == "retrieval"
    shards = int((built.out / "train" / "nshards.txt").read_text())
    assert shards == 2
    reader = webdataset.WebDataset(str(built.out / f"train/{{0..{shards - 1}}}.tar"), shardshuffle=False)
    pairs = list(reader.to_tuple(["webp", "png", "jpg", "jpeg"], "txt"))
    texts = [text.decode().splitlines() for _, text in pairs]
    # A line separator inside a caption would be taken for the start of the next one.
    assert texts == [["A red owl.", "An owl sits", "owl"], ["A cow."], ["A hen.", "? broken"]]


def test_what_cannot_be_used_is_named(root: Path, build, put, photo) -> None:
    (root / "val2014" / "COCO_val2014_000000000042.jpg").unlink()
    put(root / "val2014" / "COCO_val2014_000000000073.jpg", b"\xff\xd8 no picture")
    silent, outside = entry(5, "train", [" "]), entry(6, "train", ["up and away"])
    put(root / silent["filepath"] / silent["filename"], photo(5))
    outside["filepath"] = "../elsewhere"
    put(root / "dataset_coco.json", {"dataset": "coco", "images": [*ROWS, silent, outside]})
    built = build(plan_coco(root, OPTIONS))
    assert len(built.by_key("train")) == 3
    assert built.left_out() == [
        ("no caption", "train2014/COCO_train2014_000000000005.jpg"),
        ("path leads out of the data set", "../elsewhere/COCO_train2014_000000000006.jpg"),
        ("picture is missing", "val2014/COCO_val2014_000000000042.jpg"),
        ("unreadable picture", "val2014/COCO_val2014_000000000073.jpg"),
    ]
    assert built.manifest["splits"]["val"]["samples"] == 0


def test_pictures_shrink_when_asked(root: Path, build, facts) -> None:
    built = build(plan_coco(root, BuildOptions(pictures=PictureOptions(image_size=32), limit=1)))
    (sample,) = built.by_key("train").values()
    assert "webp" in sample.parts and "jpg" not in sample.parts
    assert facts(sample) | {"width": 32, "height": 32, "original_width": 96} == facts(sample)
    assert built.manifest["expected"] == {}  # a trial is not held against the full counts


def test_the_counts_are_those_of_the_papers() -> None:
    # 82,783 training and 40,504 validation pictures of COCO 2014 are all there is.
    assert sum(EXPECTED.values()) == 82_783 + 40_504


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"dataset_coco\.json is not a JSON file"),
        ({"images": []}, r"dataset_coco\.json is not Karpathy's file.*dataset"),
        ({"dataset": "flickr30k", "images": []}, r"it says that it is 'flickr30k'"),
        ({"dataset": "coco", "images": [{"filename": "x.jpg"}]}, r"is not Karpathy's file.*cocoid"),
        ({"dataset": "coco", "images": [entry(1, "minival", ["a"])]}, r"split 'minival'"),
        ({"dataset": "coco", "images": [entry(1, "val", ["a"])] * 2}, r"two entries.*'000000001'"),
    ],
)
def test_another_file_is_one_clear_error(root: Path, put, content: object, message: str) -> None:
    put(root / "dataset_coco.json", content)
    with pytest.raises(ValueError, match=message):
        plan_coco(root, OPTIONS)


def test_a_root_without_the_folders_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train2014 is not a folder.*--root"):
        plan_coco(tmp_path, OPTIONS)


@pytest.mark.parametrize("change", [{"samples_per_shard": 0}, {"limit": 0}])
def test_unusable_options_are_named(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(change))}=0"):
        BuildOptions(**change)
