from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mm_mhmoe_data.vqa_data import VQAExample, answer_vocabulary, read_questions, read_vqa, soft_targets


def _write(directory: Path, questions: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> tuple[Path, Path]:
    first, second = directory / "q.json", directory / "a.json"
    first.write_text(json.dumps({"questions": questions}))
    second.write_text(json.dumps({"annotations": annotations}))
    return first, second


def _question(number: int) -> dict[str, Any]:
    return {"question_id": number, "image_id": 42, "question": f"what is {number}?"}


def _annotation(number: int, answers: list[str]) -> dict[str, Any]:
    return {
        "question_id": number,
        "image_id": 42,
        "question_type": "what is",
        "answer_type": "other",
        "multiple_choice_answer": answers[0],
        "answers": [{"answer": a, "answer_confidence": "yes", "answer_id": i} for i, a in enumerate(answers, 1)],
    }


def _example(top: str, answers: tuple[str, ...] = ()) -> VQAExample:
    return VQAExample(
        question_id=1,
        image_id=42,
        question="q",
        question_type="t",
        answer_type="other",
        answers=answers or (top,),
        top_answer=top,
    )


def test_the_files_are_joined_by_question(tmp_path: Path) -> None:
    paths = _write(tmp_path, [_question(2), _question(1)], [_annotation(1, ["a", "b"]), _annotation(2, ["c"])])
    examples = read_vqa(*paths)
    assert [e.question_id for e in examples] == [2, 1]
    assert examples[1].answers == ("a", "b") and examples[1].top_answer == "a"
    assert examples[0].image_key == "000000042"
    assert examples[0].question_type == "what is" and examples[0].answer_type == "other"
    assert read_questions(paths[0]) == ["what is 2?", "what is 1?"]


def test_a_question_without_annotation_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.json has no annotation for question 2"):
        read_vqa(*_write(tmp_path, [_question(1), _question(2)], [_annotation(1, ["a"])]))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing\.json does not exist"):
        read_questions(tmp_path / "nothing.json")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"questions": 3}', '{"questions": [{"question_id": 1}]}'])
def test_another_format_is_one_clear_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "q.json").write_text(content)
    with pytest.raises(ValueError, match=r"q\.json is not a VQAv2 questions file"):
        read_questions(tmp_path / "q.json")


@pytest.mark.parametrize("field", ["image_id", "question_id", "question"])
def test_a_question_without_a_field_is_one_clear_error(tmp_path: Path, field: str) -> None:
    question = {k: v for k, v in _question(1).items() if k != field}
    with pytest.raises(ValueError, match=rf"q\.json is not a VQAv2 questions file.*{field}"):
        read_vqa(*_write(tmp_path, [question], [_annotation(1, ["a"])]))


@pytest.mark.parametrize("field", ["question_id", "answers", "answer_type", "multiple_choice_answer"])
def test_an_annotation_without_a_field_is_one_clear_error(tmp_path: Path, field: str) -> None:
    annotation = {k: v for k, v in _annotation(1, ["a"]).items() if k != field}
    with pytest.raises(ValueError, match=rf"a\.json is not a VQAv2 annotations file.*{field}"):
        read_vqa(*_write(tmp_path, [_question(1)], [annotation]))


def test_the_vocabulary_is_by_frequency_then_alphabet() -> None:
    examples = [_example(a) for a in ("no", "yes", "red", "yes", "no", "blue", "rare")]
    assert answer_vocabulary(examples, min_count=1) == ["no", "yes", "blue", "rare", "red"]
    assert answer_vocabulary(examples, min_count=2) == ["no", "yes"]
    with pytest.raises(ValueError, match="min_answer_count=3"):
        answer_vocabulary(examples, min_count=3)


def test_soft_targets_count_people() -> None:
    answers = ["a"] * 1 + ["b"] * 2 + ["c"] * 3 + ["d"] * 4 + ["other"]
    targets = soft_targets(answers, {name: i for i, name in enumerate("abcde")})
    # BEiT-3's get_score: 0.3, 0.6, 0.9, then 1.
    assert targets.tolist() == pytest.approx([0.3, 0.6, 0.9, 1.0, 0.0])
    assert soft_targets(["a"] * 10, {"a": 0}).tolist() == [1.0]
