from __future__ import annotations

from pathlib import Path

import pytest
from mm_mhmoe_eval.tasks import list_tasks, load_task

GOOD = """
name: mine
version: 2
kind: vqa
description: My questions.
data: {test: shards, test_questions: q.json, test_annotations: a.json}
metrics: [vqa]
"""


def test_every_task_parses() -> None:
    known = {"masked_openclipart", "nlvr2_openclipart", "retrieval_coco", "retrieval_openclipart", "vqa_openclipart"}
    assert known <= set(list_tasks())
    for name in list_tasks():
        task = load_task(name)
        assert task.name == name
        assert task.metrics
        assert not any(Path(path).is_absolute() for path in task.data.values())


def test_a_task_of_the_users_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    assert load_task(path).version == 2


def test_unknown_task_lists_the_known() -> None:
    with pytest.raises(ValueError, match="vqa_openclipart"):
        load_task("coco")
    with pytest.raises(ValueError, match="does not exist"):
        load_task("nowhere.yaml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kind: vqa", "kind: ocr", "kind='ocr'"),
        ("version: 2", "version: two", "version"),
        ("name: mine", "", "missing fields name"),
        ("name: mine", "name: mine\nextra: 1", "unknown fields extra"),
        ("test_questions: q.json, ", "", "lacks test_questions"),
        ("metrics: [vqa]", "metrics: vqa", "metrics"),
        ("name: mine", "name: [", "not YAML"),
        ("name: mine", "name: !!python/object/apply:os.getcwd []", "not YAML"),
    ],
)
def test_malformed_tasks(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ValueError, match=message):
        load_task(path)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD + "#" * 70_000)
    with pytest.raises(ValueError, match="larger"):
        load_task(path)
