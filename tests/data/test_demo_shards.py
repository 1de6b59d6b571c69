"""The shipped shards keep what their card promises; everything is recomputed from the files."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from mm_mhmoe_data.recipes.leaks import Entry, find_leaks, read_entries
from mm_mhmoe_data.shards import check_shard, expand_shards, iter_samples
from mm_mhmoe_data.stats import shard_stats
from mm_mhmoe_data.validation import validate_shards

DEMO = Path(str(files("mm_mhmoe_data"))) / "demo"
SPLITS = ("train", "val", "test")


def shards_of(split: str) -> list[Path]:
    return [shard.local() for shard in expand_shards(DEMO / split)]


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    return json.loads((DEMO / "manifest.json").read_text())


@pytest.fixture(scope="module")
def entries() -> dict[str, list[Entry]]:
    return {name: read_entries(shards_of(name)) for name in SPLITS}


def _vqa(split: str, kind: str) -> list[dict[str, Any]]:
    return json.loads((DEMO / "vqa" / f"{split}_{kind}.json").read_text())[kind]


def test_files_are_those_of_the_manifest(manifest: dict[str, Any]) -> None:
    sizes = {path.relative_to(DEMO).as_posix(): path.stat().st_size for path in DEMO.rglob("*") if path.is_file()}
    found = {name for name in sizes if not name.startswith("nlvr2/")}  # a set of its own, with its own manifest
    assert found == {*manifest["sha256"], "manifest.json"}
    for name, digest in manifest["sha256"].items():
        assert hashlib.sha256((DEMO / name).read_bytes()).hexdigest() == digest, name
    assert sum(size for name, size in sizes.items() if name.endswith(".tar")) < 16_000_000
    assert sum(sizes.values()) < 20_000_000


def test_shards_are_sound_and_counted(manifest: dict[str, Any]) -> None:
    for name in SPLITS:
        shards = shards_of(name)
        assert [f"{name}/{path.name}" for path in shards] == manifest["splits"][name]["shards"]
        assert sum(map(check_shard, shards)) == manifest["splits"][name]["pictures"]
        stats = shard_stats(expand_shards(DEMO / name))
        assert validate_shards(shards).findings == []
        size = manifest["arguments"]["image_size"]
        assert set(stats.image_sizes) == {f"{size}x{size}"}
        assert 2.0 < stats.mean_caption_words < 6.0


def test_no_twins_between_splits(entries: dict[str, list[Entry]]) -> None:
    assert find_leaks(entries) == []


def test_the_leak_check_notices_a_training_picture_in_test(entries: dict[str, list[Entry]]) -> None:
    planted = {**entries, "test": [*entries["test"], entries["train"][5]]}
    text = "\n".join(find_leaks(planted))
    for what in ("twins in the picture", "share the caption", "share the cluster", "share the key"):
        assert what in text


def test_samples_follow_img2dataset() -> None:
    keys: list[str] = []
    for name in SPLITS:
        for path in shards_of(name):
            for sample in iter_samples(path):
                assert set(sample.parts) == {"webp", "txt", "json"}
                facts = json.loads(sample.parts["json"])
                caption = sample.parts["txt"].decode()
                assert sample.key[:5] == path.stem and facts["key"] == sample.key
                assert facts["caption"] == caption and facts["status"] == "success"
                assert facts["licence"] == "public domain"
                assert not facts["url"].startswith("/") and facts["url"].startswith(facts["folder"])
                assert caption == caption.lower().strip() and caption.isascii() and len(caption.split()) <= 12
                assert not re.search(r"gramastar|clip.?art by|svg theme|hash\(|\d{4,}_|_\d\d$", caption)
                keys.append(sample.key)
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("split", SPLITS)
def test_questions_are_in_the_vqa_format(split: str, entries: dict[str, list[Entry]]) -> None:
    questions, annotations = _vqa(split, "questions"), _vqa(split, "annotations")
    assert [q["question_id"] for q in questions] == [a["question_id"] for a in annotations]
    assert len({q["question_id"] for q in questions}) == len(questions) > 200
    images = {int(entry.key) for entry in entries[split]}
    for question, annotation in zip(questions, annotations, strict=True):
        assert question["image_id"] == annotation["image_id"] and question["image_id"] in images
        answers = [answer["answer"] for answer in annotation["answers"]]
        assert len(answers) == 10 and annotation["multiple_choice_answer"] == Counter(answers).most_common(1)[0][0]
        assert [answer["answer_id"] for answer in annotation["answers"]] == list(range(1, 11))
        yes_no = annotation["multiple_choice_answer"] in ("yes", "no")
        assert annotation["answer_type"] == ("yes/no" if yes_no else "other")


@pytest.mark.parametrize("split", SPLITS)
def test_yes_and_no_are_equally_frequent_for_every_wording(split: str) -> None:
    answers: dict[str, Counter[str]] = {}
    for question, annotation in zip(_vqa(split, "questions"), _vqa(split, "annotations"), strict=True):
        if annotation["answer_type"] == "yes/no":
            answers.setdefault(question["question"], Counter())[annotation["multiple_choice_answer"]] += 1
    assert len(answers) > 10
    assert all(counts["yes"] == counts["no"] for counts in answers.values())


def test_the_question_alone_scores_low(manifest: dict[str, Any]) -> None:
    best: dict[str, Counter[str]] = {}
    for question, annotation in zip(_vqa("train", "questions"), _vqa("train", "annotations"), strict=True):
        best.setdefault(question["question"], Counter())[annotation["multiple_choice_answer"]] += 1
    scores = []
    for question, annotation in zip(_vqa("test", "questions"), _vqa("test", "annotations"), strict=True):
        guess = best[question["question"]].most_common(1)[0][0] if question["question"] in best else "yes"
        scores.append(min(1.0, sum(a["answer"] == guess for a in annotation["answers"]) / 3))
    assert sum(scores) / len(scores) < 0.42
    assert manifest["question_only_score_on_test"]["overall"] < 0.42


def test_nothing_names_the_machine_it_was_made_on() -> None:
    for name in ("manifest.json", "README.md"):
        assert not re.search(r"/(home|root|tmp|work|Users)/", (DEMO / name).read_text())
