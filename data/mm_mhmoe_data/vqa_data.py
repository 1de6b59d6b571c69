"""Questions and answers in the format of VQAv2."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SOFT_TARGETS = {0: 0.0, 1: 0.3, 2: 0.6, 3: 0.9}  # by the number of people who gave the answer; 1 from four on
_MAX_BYTES = 2 << 30
_QUESTION = ("question_id", "image_id", "question")
_UNANSWERED: dict[str, Any] = {"question_type": "", "answer_type": "", "answers": (), "multiple_choice_answer": ""}
_ANNOTATION = ("question_id", "question_type", "answer_type", "answers", "multiple_choice_answer")


@dataclass(frozen=True, kw_only=True)
class VQAExample:
    """One question. image_id is VQAv2's; answers are those of the ten people who were asked; empty in a test split."""

    question_id: int
    image_id: int
    question: str
    question_type: str
    answer_type: str
    answers: tuple[str, ...]
    top_answer: str

    @property
    def image_key(self) -> str:
        """Key of the picture in shards of the img2dataset layout: the image id with nine digits."""
        return f"{self.image_id:09d}"


def _read(path: Path | str, part: str, needed: Sequence[str]) -> list[dict[str, Any]]:
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} does not exist; give the VQAv2 {part} file")
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"{path} is larger than {_MAX_BYTES >> 20} MiB; that is no VQAv2 {part} file")
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))[part]
        for row in rows:
            for name in needed:
                row[name]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a VQAv2 {part} file ({type(error).__name__}: {error})") from error
    return rows


def read_questions(path: Path | str) -> list[str]:
    """The texts of a questions file."""
    return [row["question"] for row in _read(path, "questions", ("question",))]


def read_vqa(questions: Path | str, annotations: Path | str | None) -> list[VQAExample]:
    """Both files joined by question_id, in the order of the questions. Without annotations, questions have no types.

    Raises:
        ValueError: a file is missing or of another format, or a question has no annotation; names it.
    """
    answered = {}
    if annotations is not None:
        answered = {row["question_id"]: row for row in _read(annotations, "annotations", _ANNOTATION)}
    examples = []
    for row in _read(questions, "questions", _QUESTION):
        note = _UNANSWERED if annotations is None else answered.get(row["question_id"])
        if note is None:
            raise ValueError(f"{annotations} has no annotation for question {row['question_id']} of {questions}")
        examples.append(
            VQAExample(
                question_id=row["question_id"],
                image_id=row["image_id"],
                question=row["question"],
                question_type=note["question_type"],
                answer_type=note["answer_type"],
                answers=tuple(answer["answer"] for answer in note["answers"]),
                top_answer=note["multiple_choice_answer"],
            )
        )
    return examples


def answer_vocabulary(examples: Sequence[VQAExample], *, min_count: int) -> list[str]:
    """The answers that are the commonest answer of at least min_count questions, most frequent first."""
    counts = Counter(example.top_answer for example in examples)
    kept = sorted((a for a, n in counts.items() if n >= min_count), key=lambda a: (-counts[a], a))
    if not kept:
        raise ValueError(f"no answer occurs min_answer_count={min_count} times in {len(examples)} questions; lower it")
    return kept


def soft_targets(answers: Sequence[str], index_of: dict[str, int]) -> Tensor:
    """(A,) targets as BEiT-3 trains on: 0.3, 0.6, 0.9, 1 for one, two, three, four and more people."""
    target_A = torch.zeros(len(index_of))
    for answer, count in Counter(answers).items():
        if answer in index_of:
            target_A[index_of[answer]] = SOFT_TARGETS.get(count, 1.0)
    return target_A
