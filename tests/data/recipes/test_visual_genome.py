"""Visual Genome on a small folder that is laid out like the original; phrases and boxes are made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mm_mhmoe_data.recipes.research_options import BuildOptions
from mm_mhmoe_data.recipes.visual_genome import plan_visual_genome

PHRASES: dict[int, list[str]] = {
    1: ["a red roof", "tree", "A  Red roof", "man\nwalking", " "],
    2: ["a clock"],
    3: ["a wall"],
    4: [],
    2417997: ["the sky"],
}
COCO = {1: None, 2: 42, 3: 73, 4: None, 2417997: 9}


def region(number: int, image: int, phrase: str) -> dict[str, Any]:
    box = {"x": 10 * number, "y": 2, "width": 30, "height": 40}
    return {"region_id": 100 * image + number, "image_id": image, "phrase": phrase, **box}


@pytest.fixture
def root(tmp_path: Path, put, photo) -> Path:
    root = tmp_path / "vg"
    for number, image in enumerate(PHRASES):
        put(root / ("VG_100K" if image > 2 else "VG_100K_2") / f"{image}.jpg", photo(number))
    sizes = {"flickr_id": None, "width": 96, "height": 96}
    put(root / "image_data.json", [{"image_id": image, "coco_id": COCO[image], **sizes} for image in PHRASES])
    put(
        root / "region_descriptions.json",
        [{"id": i, "regions": [region(n, i, p) for n, p in enumerate(texts)]} for i, texts in PHRASES.items()],
    )
    return root


def test_phrases_are_captions(root: Path, build, facts, photo) -> None:
    built = build(plan_visual_genome(root, BuildOptions(samples_per_shard=3)))
    found = built.by_key("train")
    assert list(found) == ["000000001", "000000002", "000000003", "002417997"]
    first = found["000000001"]
    assert first.parts["jpg"] == photo(0)
    assert first.parts["txt"].decode() == "a red roof\ntree\nman walking"  # said twice, kept once
    assert facts(first)["boxes"] == [[0, 2, 30, 40], [10, 2, 30, 40], [30, 2, 30, 40]]
    assert facts(first)["region_ids"] == [100, 101, 103] and facts(first)["filename"] == "VG_100K_2/1.jpg"
    assert facts(found["000000002"])["coco_id"] == 42
    assert built.manifest["counts"] == {"phrases": 6, "pictures that are in COCO": 3}
    assert built.left_out() == [("no phrase", "VG_100K/4.jpg")]
    assert built.manifest["expected"] == {"train": {"expected": 108_077, "found": 4}}


def test_the_number_of_phrases_can_be_limited(root: Path, build) -> None:
    built = build(plan_visual_genome(root, BuildOptions(), max_phrases=2))
    assert built.by_key("train")["000000001"].parts["txt"] == b"a red roof\ntree"


def test_pictures_of_coco_val_and_test_stay_out(root: Path, tmp_path: Path, put, build) -> None:
    images = [
        {"filepath": "val2014", "filename": f"{number}.jpg", "cocoid": number, "split": split, "sentences": []}
        for number, split in {42: "val", 73: "test", 9: "restval"}.items()
    ]
    karpathy = put(tmp_path / "dataset_coco.json", {"dataset": "coco", "images": images})
    built = build(plan_visual_genome(root, BuildOptions(), karpathy=karpathy))
    assert list(built.by_key("train")) == ["000000001", "002417997"]
    assert built.left_out()[:2] == [
        ("in COCO's val split", "VG_100K_2/2.jpg"),
        ("in COCO's test split", "VG_100K/3.jpg"),
    ]
    assert built.manifest["expected"] == {}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("image_data.json", [{"id": 1}], r"image_data\.json is not Visual Genome's.*image_id"),
        ("region_descriptions.json", [{"id": 1}], r"region_descriptions\.json is not Visual Genome's.*regions"),
        ("region_descriptions.json", "[", r"region_descriptions\.json is not a JSON file"),
    ],
)
def test_another_file_is_one_clear_error(root: Path, put, name: str, content: object, message: str) -> None:
    put(root / name, content)
    with pytest.raises(ValueError, match=message):
        plan_visual_genome(root, BuildOptions())


def test_max_phrases_must_leave_some(root: Path) -> None:
    with pytest.raises(ValueError, match="max_phrases=0"):
        plan_visual_genome(root, BuildOptions(), max_phrases=0)
