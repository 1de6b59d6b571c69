"""VQAv2 on a small folder that is laid out like the original; questions and answers are made up.

The vocabulary is held against cases worked by hand from BEiT-3's published rule, the files against the reader that
fine-tuning uses, and all of it against what BEiT-3's own code wrote (tests/golden/make_beit3_vqa.py).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mm_mhmoe_data.recipes.answers import answers_file, beit3_answers, read_answers_file
from mm_mhmoe_data.recipes.research_options import BuildOptions
from mm_mhmoe_data.recipes.vqav2 import plan_vqav2
from mm_mhmoe_data.recipes.vqav2_source import ANNOTATIONS, QUESTIONS
from mm_mhmoe_data.vqa_data import read_questions, read_vqa, soft_targets

GOLDEN = Path(__file__).parents[2] / "golden" / "beit3_vqa.json"


def test_the_vocabulary_is_that_of_a_case_worked_by_hand() -> None:
    top = (
        ["two"] * 5 + ["yes"] * 8 + ["The cat."] * 9 + ["2"] * 4 + ["dont know"] * 9 + ["t-shirt"] * 9 + ["Yes", "rare"]
    )
    # "two" and "2" are one answer, of nine questions; "yes" gets its ninth from "Yes"; labels go by first occurrence.
    assert beit3_answers(top) == ["2", "yes", "cat", "don't know", "t shirt"]
    assert beit3_answers(["no"] * 8 + ["yes"] * 9) == ["yes"]  # nine, not eight


def test_the_file_of_answers_is_the_one_that_beit3_reads(tmp_path: Path, put) -> None:
    path = put(tmp_path / "answer2label.txt", answers_file(["yes", "café", '5"']))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows == [{"answer": "yes", "label": 0}, {"answer": "café", "label": 1}, {"answer": '5"', "label": 2}]
    assert read_answers_file(path) == ["yes", "café", '5"']


def test_a_file_of_answers_with_a_gap_is_refused(tmp_path: Path, put) -> None:
    path = put(tmp_path / "answer2label.txt", '{"answer": "a", "label": 0}\n{"answer": "b", "label": 2}\n')
    with pytest.raises(ValueError, match=r"answer2label\.txt is not .* line 2.*label 2 where 1 is due"):
        read_answers_file(path)


def question(image: int, number: int) -> dict[str, Any]:
    return {"question_id": 1000 * image + number, "image_id": image, "question": f"what is {number}?"}


def annotation(image: int, number: int, top: str, *others: str) -> dict[str, Any]:
    answers = [top] * (10 - len(others)) + list(others)
    return {
        "question_id": 1000 * image + number,
        "image_id": image,
        "question_type": "what is",
        "answer_type": "other",
        "multiple_choice_answer": top,
        "answers": [{"answer": a, "answer_confidence": "yes", "answer_id": i} for i, a in enumerate(answers, 1)],
    }


TRAIN = [annotation(9, 0, "yes"), annotation(9, 1, "odd", "yes"), annotation(25, 0, "odder"), annotation(30, 0, "yes")]
VAL = [annotation(image, 0, "yes") for image in range(42, 50)] + [annotation(60, 0, "oddest")]
"""One test below takes answers of at least 9 questions: "yes", of two in train and eight in val."""


@pytest.fixture
def root(tmp_path: Path, put, photo) -> Path:
    root = tmp_path / "vqa"
    for name, rows in {"train": TRAIN, "val": VAL}.items():
        put(root / "vqa" / ANNOTATIONS[name], {"annotations": rows, "info": {}})
        asked = [question(row["image_id"], row["question_id"] % 1000) for row in rows]
        put(root / "vqa" / QUESTIONS[name], {"questions": asked, "task_type": "Open-Ended"})
        for image in {row["image_id"] for row in rows}:
            put(root / f"{name}2014" / f"COCO_{name}2014_{image:012d}.jpg", photo(image % 40))
    put(root / "train2014" / "COCO_train2014_000000000077.jpg", b"nobody asks about this one")
    put(root / "vqa" / QUESTIONS["test"], {"questions": [question(1, 0), question(1, 1), question(16, 0)]})
    put(root / "vqa" / QUESTIONS["test-dev"], {"questions": [question(16, 0)]})
    for image in (1, 16):
        put(root / "test2015" / f"COCO_test2015_{image:012d}.jpg", photo(image))
    return root


def test_splits_are_those_of_beit3(root: Path, build, facts, photo) -> None:
    built = build(plan_vqav2(root, BuildOptions(), rest_val=3))
    found = {split: built.by_key(split) for split in ("train", "trainable_val", "rest_val", "test")}
    # 25 has no answer of the vocabulary, so BEiT-3 trains on nothing of it; of 9, "odd" stays: one person said yes.
    assert list(found["train"]) == ["000000009", "000000030"]
    assert facts(found["train"]["000000009"])["question_ids"] == [9000, 9001]
    assert len(found["rest_val"]) == 3 and len(found["trainable_val"]) == 5
    assert {*found["rest_val"], *found["trainable_val"]} == {f"{image:09d}" for image in range(42, 50)}
    assert list(found["test"]) == ["000000001", "000000016"] and not (built.out / "test-dev").exists()
    assert found["test"]["000000016"].parts["jpg"] == photo(16) and found["test"]["000000016"].parts["txt"] == b""
    assert read_answers_file(built.out / "answer2label.txt") == ["yes"]
    assert built.manifest["counts"]["questions without an answer of the vocabulary"] == 2
    assert built.manifest["expected"]["answers"] == {"expected": 3_129, "found": 1}


def test_questions_fit_their_pictures(root: Path, build) -> None:
    built = build(plan_vqav2(root, BuildOptions(), rest_val=3))
    sizes = {}
    for split in ("train", "trainable_val", "rest_val"):
        examples = read_vqa(
            built.out / "vqa" / f"{split}_questions.json", built.out / "vqa" / f"{split}_annotations.json"
        )
        assert {example.image_key for example in examples} == set(built.by_key(split))
        sizes[split] = len(examples)
    fit = read_vqa(built.out / "vqa" / "fit_questions.json", built.out / "vqa" / "fit_annotations.json")
    assert len(fit) == sizes["train"] + sizes["trainable_val"] == 3 + 5
    assert fit[1].answers == ("odd",) * 9 + ("yes",) and fit[1].top_answer == "odd"
    assert len(read_questions(built.out / "vqa" / "test_questions.json")) == 3
    assert len(read_questions(built.out / "vqa" / "test-dev_questions.json")) == 1
    assert not (built.out / "vqa" / "test_annotations.json").exists()
    assert built.manifest["questions"] == {"train": 3, "trainable_val": 5, "rest_val": 3, "test": 3, "test-dev": 1}


def test_the_held_out_pictures_are_a_function_of_the_seed(root: Path) -> None:
    def chosen(seed: int) -> bytes:
        return plan_vqav2(root, BuildOptions(), rest_val=3, seed=seed).files["vqa/rest_val_questions.json"]()

    assert chosen(0) == chosen(0)
    assert len({chosen(seed) for seed in range(5)}) > 1


def test_a_missing_picture_takes_its_questions_along(root: Path, build) -> None:
    (root / "train2014" / "COCO_train2014_000000000009.jpg").unlink()
    built = build(plan_vqav2(root, BuildOptions(), rest_val=3))
    assert built.left_out() == [("picture is missing", "train2014/COCO_train2014_000000000009.jpg")]
    assert built.manifest["questions"]["train"] == 1
    # What the people answered still counts for the vocabulary: it must be the same for everybody.
    assert read_answers_file(built.out / "answer2label.txt") == ["yes"]


def test_without_the_test_sets(root: Path, build) -> None:
    for name in ("test", "test-dev"):
        (root / "vqa" / QUESTIONS[name]).unlink()
    built = build(plan_vqav2(root, BuildOptions(), rest_val=3))
    assert set(built.manifest["splits"]) == {"train", "trainable_val", "rest_val"}
    assert not list((built.out / "vqa").glob("test*"))


def test_a_limit_keeps_questions_and_pictures_together(root: Path, build) -> None:
    built = build(plan_vqav2(root, BuildOptions(limit=2), rest_val=1))
    assert len(built.by_key("trainable_val")) == len(built.by_key("rest_val")) == 1
    out_questions = json.loads((built.out / "vqa" / "test_questions.json").read_bytes())["questions"]
    assert {f"{row['image_id']:09d}" for row in out_questions} == set(built.by_key("test"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (QUESTIONS["val"], {"annotations": []}, r"val2014_questions\.json is not a VQAv2 questions file.*questions"),
        (QUESTIONS["val"], {"questions": [question(1, 0) | {"image_id": "1"}]}, "is not a VQAv2 questions file"),
        (ANNOTATIONS["train"], {"annotations": [{"question_id": 1, "image_id": 1}]}, "multiple_choice_answer"),
    ],
)
def test_another_file_is_one_clear_error(root: Path, put, name: str, content: object, message: str) -> None:
    put(root / "vqa" / name, content)
    with pytest.raises(ValueError, match=message):
        plan_vqav2(root, BuildOptions(), rest_val=3)


def test_rest_val_must_leave_pictures_to_train_on(root: Path) -> None:
    with pytest.raises(ValueError, match="rest_val=8 takes all 8"):
        plan_vqav2(root, BuildOptions(), rest_val=8)


@pytest.fixture
def golden(tmp_path: Path, put) -> tuple[Path, dict[str, Any]]:
    """Made-up questions and answers, laid out for the recipe, and what BEiT-3's code makes of them."""
    values = json.loads(GOLDEN.read_text())
    for name, rows in values["rows"].items():
        notes = [row | {"answers": [{"answer": answer} for answer in row["answers"]]} for row in rows]
        asked = [{"image_id": r["image_id"], "question_id": r["question_id"], "question": "?"} for r in rows]
        put(tmp_path / ANNOTATIONS[name], {"annotations": notes})
        put(tmp_path / QUESTIONS[name], {"questions": asked})
        for row in rows:
            put(tmp_path / f"{name}2014" / f"COCO_{name}2014_{row['image_id']:012d}.jpg", b"")
    return tmp_path, values


def test_beit3s_own_code_makes_the_same_of_it(golden: tuple[Path, dict[str, Any]]) -> None:
    root, values = golden
    plan = plan_vqav2(root, BuildOptions(), rest_val=9)
    assert plan.files["answer2label.txt"]().decode() == values["answer2label"]
    index_of = {json.loads(line)["answer"]: label for label, line in enumerate(values["answer2label"].splitlines())}
    found: dict[str, dict[str, list[float]]] = {}
    for split, name in (("train", "train"), ("trainable_val", "val"), ("rest_val", "val")):
        for note in json.loads(plan.files[f"vqa/{split}_annotations.json"]())["annotations"]:
            answers = [answer["answer"] for answer in note["answers"]]
            found.setdefault(name, {})[str(note["question_id"])] = soft_targets(answers, index_of).tolist()
    for name, rows in values["index"].items():
        assert set(found[name]) == set(rows)  # the same questions are left out
        for question, (labels, scores) in rows.items():
            wanted = dict(zip(labels, scores, strict=True))
            assert found[name][question] == pytest.approx([wanted.get(label, 0) for label in range(len(index_of))])
