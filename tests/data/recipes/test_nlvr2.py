"""NLVR2 on a small folder that is laid out like the original; the sentences are made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import webdataset
from mm_mhmoe_data.recipes.nlvr2 import plan_nlvr2
from mm_mhmoe_data.recipes.research_options import BuildOptions
from mm_mhmoe_data.statements import read_statements


def line(identifier: str, label: str, **more: Any) -> str:
    row = {"synset": "owl", "sentence": f"There are two.\n({identifier})", "identifier": identifier, "label": label}
    return json.dumps(row | {"left_url": "https://x/l", "right_url": "https://x/r", "writer": 3} | more)


@pytest.fixture
def root(tmp_path: Path, put, photo) -> Path:
    root = tmp_path / "nlvr2"
    lines = {
        "train": [line("train-10171-0-0", "True", directory=60), line("train-10171-0-1", "False", directory=60)],
        "dev": [line("dev-269-0-0", "False")],
        "test1": [line("test1-261-2-0", "True")],
    }
    for split, rows in lines.items():
        put(root / "nlvr" / "nlvr2" / "data" / f"{split}.json", "\n".join(rows) + "\n")
    for number, side in enumerate(("img0", "img1")):
        put(root / "images" / "train" / "60" / f"train-10171-0-{side}.png", photo(number, "PNG"))
        put(root / "dev" / f"dev-269-0-{side}.png", photo(2 + number, "PNG"))
        # A file may be a JPEG in spite of its name.
        put(root / "images" / "test1" / f"test1-261-2-{side}.png", photo(4 + number, "JPEG"))
    return root


def test_a_sample_has_two_pictures(root: Path, build, facts, photo) -> None:
    built = build(plan_nlvr2(root, BuildOptions()))
    train = built.by_key("train")
    assert list(train) == ["train-10171-0-0", "train-10171-0-1"]
    first = train["train-10171-0-0"]
    assert set(first.parts) == {"left.png", "right.png", "txt", "cls", "json"}
    assert (first.parts["left.png"], first.parts["right.png"]) == (photo(0, "PNG"), photo(1, "PNG"))
    assert first.parts["txt"] == b"There are two. (train-10171-0-0)"
    assert [sample.parts["cls"] for sample in train.values()] == [b"1", b"0"]
    assert facts(first) | {"label": True, "synset": "owl", "identifier": "train-10171-0-0"} == facts(first)
    assert facts(first)["filenames"][1] == "images/train/60/train-10171-0-img1.png"
    assert facts(built.by_key("dev")["dev-269-0-0"])["filenames"][0] == "dev/dev-269-0-img0.png"
    assert "left.jpg" in built.by_key("test1")["test1-261-2-0"].parts
    rows = read_statements(built.out / "train").rows  # and so fine-tuning reads them
    assert [(row.identifier, row.label) for row in rows] == [("train-10171-0-0", True), ("train-10171-0-1", False)]
    assert built.manifest["counts"] == {"train true": 1, "dev true": 0, "test1 true": 1}
    assert [row["expected"] for row in built.manifest["expected"].values()] == [86_373, 6_982, 6_967]


def test_webdataset_sees_both_pictures_under_one_key(root: Path, build, photo) -> None:
    built = build(plan_nlvr2(root, BuildOptions()))
    (row,) = webdataset.WebDataset(str(built.out / "dev/00000.tar"), shardshuffle=False)
    assert row["__key__"] == "dev-269-0-0"
    assert (row["left.png"], row["right.png"]) == (photo(2, "PNG"), photo(3, "PNG"))


def test_a_missing_picture_takes_its_sentences_along(root: Path, build) -> None:
    (root / "images/train/60/train-10171-0-img1.png").unlink()
    built = build(plan_nlvr2(root, BuildOptions()))
    assert built.manifest["dropped"] == {"picture is missing": 2}
    assert built.left_out()[1][1] == "images/train/60/train-10171-0-img1.png, of train-10171-0-1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}\n", r"dev\.json is not a file of NLVR2: see line 1.*identifier"),
        (line("dev-269-0-0", "False") + "\n" + line("dev-269-0-1", "maybe"), r"see line 2.*maybe"),
        ("\n[\n", r"dev\.json is not a file of JSON lines: see line 2"),
    ],
)
def test_another_file_is_one_clear_error(root: Path, put, content: str, message: str) -> None:
    put(root / "nlvr/nlvr2/data/dev.json", content)
    with pytest.raises(ValueError, match=message):
        plan_nlvr2(root, BuildOptions())


def test_missing_pictures_of_a_split_are_named(root: Path) -> None:
    (root / "dev").rename(root / "development")
    with pytest.raises(ValueError, match="neither a folder images/dev nor dev"):
        plan_nlvr2(root, BuildOptions())
