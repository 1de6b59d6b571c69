"""VQAv2 files from BEiT-3's index files, which keep labels and scores but not what the ten people said."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .beit3_index import IndexRow
from .beit3_text import SegmentText
from .vqav2_files import question_files

PEOPLE = 10
OUTSIDE = "outside of the vocabulary"
"""Stands for what people said that the index does not keep. The empty answer would not do: it can be one of the
vocabulary, because the official normalisation turns "a" into it."""
_GIVERS = {0.3: 1, 0.6: 2, 0.9: 3, 1.0: 4}
"""A score -> how many people gave the answer; 1 stands for four and more, and four are enough for it."""


def vqa_files(
    splits: Mapping[str, Sequence[IndexRow]], texts: SegmentText, answers: Sequence[str]
) -> dict[str, Callable[[], bytes]]:
    """The files of the VQAv2 format for every split; test splits have no annotations.

    Raises ValueError for a picture that is not COCO's, a label that has no answer, or a score that no count gives.
    """
    questions: dict[str, list[dict[str, Any]]] = {}
    notes: dict[int, dict[str, Any]] = {}
    for split, rows in splits.items():
        questions[split] = []
        for row in rows:
            question_id, image_id = row.fields["qid"], _image_id(row)
            questions[split].append({"question_id": question_id, "image_id": image_id, "question": texts(row.segment)})
            if not split.startswith("test"):
                notes[question_id] = _annotation(row, question_id, image_id, answers)
    return question_files(questions, notes)


def _image_id(row: IndexRow) -> int:
    if row.coco_id is None:
        raise ValueError(f"{row.image_path} is not named like a picture of COCO, so its questions cannot refer to it.")
    return row.coco_id


def _annotation(row: IndexRow, question_id: int, image_id: int, answers: Sequence[str]) -> dict[str, Any]:
    """Ten answers that give each label BEiT-3's score, by BEiT-3's rule and by the official one."""
    labels, scores = row.fields["labels"], row.fields["scores"]
    if len(labels) != len(scores):
        raise ValueError(f"question {question_id} has not as many labels as scores.")
    given: list[str] = []
    for label, score in zip(labels, scores, strict=True):
        if not 0 <= label < len(answers):
            raise ValueError(
                f"question {question_id} has the label {label}, but answer2label.txt {len(answers)} answers."
            )
        if score not in _GIVERS:
            raise ValueError(f"question {question_id} has the score {score}, which no number of people gives.")
        given += [answers[label]] * _GIVERS[score]
    if len(given) > PEOPLE:
        raise ValueError(f"question {question_id} has scores that more than {PEOPLE} people would have to give.")
    top = max(given, key=given.count, default=OUTSIDE)
    given += [OUTSIDE] * (PEOPLE - len(given))
    return {
        "question_id": question_id,
        "image_id": image_id,
        "question_type": "unknown",
        "answer_type": "unknown",
        "multiple_choice_answer": top,
        "answers": [
            {"answer": answer, "answer_confidence": "yes", "answer_id": number}
            for number, answer in enumerate(given, start=1)
        ],
    }
