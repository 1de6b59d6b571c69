"""Flickr30k on a small folder that is laid out like the original; the captions are made up."""

from __future__ import annotations

from pathlib import Path

from mm_mhmoe_data.recipes.flickr30k import plan_flickr30k
from mm_mhmoe_data.recipes.research_options import BuildOptions

NAMES = {"1000092795": "train", "36979": "val", "1007129816": "test"}


def test_splits_and_captions(tmp_path: Path, put, photo, build, facts) -> None:
    root = tmp_path / "flickr30k"
    images = []
    for number, (name, split) in enumerate(NAMES.items()):
        put(root / "flickr30k-images" / f"{name}.jpg", photo(number))
        sentences = [{"raw": f"{split} {i}", "sentid": i, "imgid": number, "tokens": [split]} for i in range(5)]
        entry = {"filename": f"{name}.jpg", "imgid": number, "split": split, "sentids": [0, 1, 2, 3, 4]}
        images.append(entry | {"sentences": sentences})
    put(root / "dataset_flickr30k.json", {"dataset": "flickr30k", "images": images})
    built = build(plan_flickr30k(root, BuildOptions()))
    (sample,) = built.by_key("test").values()
    assert sample.key == "1007129816" and sample.parts["jpg"] == photo(2)
    assert sample.parts["txt"].decode().split("\n") == [f"test {i}" for i in range(5)]
    assert facts(sample)["filename"] == "1007129816.jpg"
    assert list(built.by_key("train")) == ["1000092795"] and list(built.by_key("val")) == ["36979"]
    # Karpathy's file has 31,014 of Flickr30k's pictures.
    assert sum(row["expected"] for row in built.manifest["expected"].values()) == 31_014
