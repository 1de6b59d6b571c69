"""Questions as the two JSON files of the VQAv2 format, and what the question text alone would score."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from .questions import Question


def write_vqa_files(questions: Sequence[Question], folder: Path, split: str) -> None:
    """Write `{split}_questions.json` and `{split}_annotations.json`.

    question_id is image_id * 1000 + n, as in VQAv2, where n counts the questions of a picture from 0.
    """
    asked: Counter[int] = Counter()
    question_rows, annotation_rows = [], []
    for question in questions:
        question_id = question.image_id * 1000 + asked[question.image_id]
        asked[question.image_id] += 1
        question_rows.append({"image_id": question.image_id, "question": question.text, "question_id": question_id})
        annotation_rows.append(
            {
                "question_type": question.question_type,
                "multiple_choice_answer": question.answers[0],
                "answers": [
                    {"answer": answer, "answer_id": number} for number, answer in enumerate(question.answers, start=1)
                ],
                "image_id": question.image_id,
                "answer_type": question.answer_type,
                "question_id": question_id,
            }
        )
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / f"{split}_questions.json", {"questions": question_rows})
    _write(folder / f"{split}_annotations.json", {"annotations": annotation_rows})


def answer_distribution(questions: Sequence[Question]) -> dict[str, dict[str, int]]:
    """Answers and their counts per question type, most frequent first."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for question in questions:
        counts[question.question_type][question.answers[0]] += 1
    return {
        name: dict(sorted(counter.items(), key=lambda pair: (-pair[1], pair[0])))
        for name, counter in sorted(counts.items())
    }


def question_only_score(train: Sequence[Question], test: Sequence[Question]) -> dict[str, float]:
    """Score on test, per type and overall, of the most frequent train answer to the same question text.

    Scored by matches / 3, at most 1. A text never seen in train gets the most frequent answer of its
    type.
    """
    by_text: dict[str, Counter[str]] = defaultdict(Counter)
    by_type: dict[str, Counter[str]] = defaultdict(Counter)
    for question in train:
        by_text[question.text][question.answers[0]] += 1
        by_type[question.question_type][question.answers[0]] += 1
    hits: dict[str, list[float]] = defaultdict(list)
    for question in test:
        counts = by_text.get(question.text) or by_type.get(question.question_type) or Counter({"": 1})
        guess = min(counts, key=lambda answer: (-counts[answer], answer))
        score = min(question.answers.count(guess) / 3, 1.0)
        for name in (question.question_type, "overall"):
            hits[name].append(score)
    return {name: round(sum(scores) / len(scores), 4) for name, scores in sorted(hits.items())}


def _write(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, separators=(",", ":"), ensure_ascii=True) + "\n", encoding="utf-8")
