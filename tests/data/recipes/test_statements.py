"""The shipped statements about clip-art: everything that their card promises is recomputed from files and metadata."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from mm_mhmoe_data.recipes.colours import main_colour
from mm_mhmoe_data.recipes.statements import SPLITS, build_statements
from mm_mhmoe_data.shards import expand_shards, iter_samples

DEMO = Path(str(files("mm_mhmoe_data"))) / "demo"
NLVR2 = DEMO / "nlvr2"

Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def rows() -> Rows:
    return {name: [json.loads(line) for line in (NLVR2 / f"{name}.jsonl").open()] for name in SPLITS}


@pytest.fixture(scope="module")
def pictures() -> dict[str, dict[str, tuple[dict[str, Any], bytes]]]:
    """Metadata and bytes of every picture, by split and key."""
    return {
        name: {
            sample.key: (json.loads(sample.parts["json"]), sample.parts["webp"])
            for shard in expand_shards(DEMO / name)
            for sample in iter_samples(shard.local())
        }
        for name in SPLITS
    }


def test_files_are_those_of_the_manifest() -> None:
    manifest = json.loads((NLVR2 / "manifest.json").read_text())
    assert {path.name for path in NLVR2.iterdir()} == {*manifest["sha256"], "manifest.json"}
    for name, digest in manifest["sha256"].items():
        assert hashlib.sha256((NLVR2 / name).read_bytes()).hexdigest() == digest, name
    for name, digest in manifest["source"].items():
        assert hashlib.sha256((DEMO / name).read_bytes()).hexdigest() == digest, name
    assert sum(path.stat().st_size for path in NLVR2.iterdir()) < 3_000_000


def test_every_sentence_is_as_often_true_as_false(rows: Rows) -> None:
    for name, count in (("train", 4_000), ("val", 400), ("test", 1000)):
        assert len(rows[name]) == len({row["identifier"] for row in rows[name]}) == count
        labels: dict[str, list[str]] = defaultdict(list)
        groups: dict[str, list[str]] = defaultdict(list)
        for row in rows[name]:
            split, number, _, sentence = row["identifier"].split("-")
            assert split == name and row["left"] != row["right"]
            labels[row["sentence"]].append(row["label"])
            groups[f"{number}-{sentence}"].append(row["label"])
        for told in (*labels.values(), *groups.values()):
            assert told.count("True") == told.count("False")
        assert {len(group) for group in groups.values()} == {4}


def test_pictures_are_those_of_the_split(rows: Rows, pictures) -> None:
    used = {name: {row[side] for row in rows[name] for side in ("left", "right")} for name in SPLITS}
    assert all(used[name] <= pictures[name].keys() for name in SPLITS)
    assert not used["train"] & used["test"] and not used["train"] & used["val"] and not used["val"] & used["test"]


def test_labels_follow_from_pixels_and_metadata(rows: Rows, pictures) -> None:
    """Colours from pixels, categories from the folder; with the frames' meaning written out anew."""
    checked = 0
    for row in rows["test"]:
        (left, left_bytes), (right, right_bytes) = (pictures["test"][row[side]] for side in ("left", "right"))
        frame, sentence = row["type"], row["sentence"]
        if sentence.endswith("one category"):
            holds = left["category"] == right["category"]
        elif sentence.endswith("same main color"):
            holds = main_colour(left_bytes)[0] == main_colour(right_bytes)[0]
        else:
            if " mainly " in sentence:
                colour = sentence.rpartition(" ")[2]
                one, other = main_colour(left_bytes)[0] == colour, main_colour(right_bytes)[0] == colour
            elif sentence.endswith((" an animal", " a flag", " food")):
                category = {"animal": "animals", "flag": "flags", "food": "food"}[sentence.rpartition(" ")[2]]
                one, other = left["category"] == category, right["category"] == category
            else:
                continue
            holds = {
                "left": one,
                "right": other,
                "both": one and other,
                "neither": not one and not other,
                "only one": one != other,
                "one or both": one or other,
            }[frame]
        assert row["label"] == str(holds), row
        checked += 1
    assert checked > 500


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    small = {"train": 40, "val": 8, "test": 9}
    manifest = build_statements(DEMO, tmp_path / "a", **small)
    build_statements(DEMO, tmp_path / "b", **small)
    build_statements(DEMO, tmp_path / "c", **small, seed=1)
    a, b, c = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "abc")
    assert a == b and a["test.jsonl"] != c["test.jsonl"]
    assert manifest["splits"]["test"]["samples"] == 8 == len(a["test.jsonl"].splitlines())


def test_sentences_about_colours_alone(tmp_path: Path) -> None:
    build_statements(DEMO, tmp_path / "out", train=40, val=8, test=8, about=["color"])
    assert all(" mainly " in json.loads(line)["sentence"] for line in (tmp_path / "out" / "train.jsonl").open())


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must name some of color, category, object, comparison"):
        build_statements(DEMO, tmp_path / "out", about=[])
    with pytest.raises(ValueError, match="val=3 must be at least 4"):
        build_statements(DEMO, tmp_path / "out", val=3)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(ValueError, match="not empty"):
        build_statements(DEMO, tmp_path / "full")
