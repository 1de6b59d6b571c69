"""The answers that BEiT-3 lets a VQAv2 model choose from, and the file that holds them.

Source: beit3/datasets.py of github.com/microsoft/unilm.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..vqa_normalise import normalise
from .research_files import expect_format, read_json_lines

MIN_COUNT = 9
EXPECTED = 3_129  # answers of VQAv2's train and val questions, as BEiT-3 and those before it have them


def beit3_answers(top_answers: Iterable[str], *, min_count: int = MIN_COUNT) -> list[str]:
    """The answers of the vocabulary in the order of their labels, which is that of their first occurrence.

    Args:
        top_answers: the `multiple_choice_answer` of every train question, then of every val question. What the ten
            people said beside it is not counted.
        min_count: an answer is in if that many questions have it after the official normalisation.
    """
    counts = Counter(normalise(answer) for answer in top_answers)
    return [answer for answer, count in counts.items() if count >= min_count]


def answers_file(answers: Sequence[str]) -> str:
    """answer2label.txt: a line {"answer": ..., "label": ...} for each."""
    return "".join(f"{json.dumps({'answer': answer, 'label': label})}\n" for label, answer in enumerate(answers))


def read_answers_file(path: Path) -> list[str]:
    """The answers of an answer2label.txt. Raises ValueError where a line is missing or out of order."""
    answers: list[str] = []
    for number, row in read_json_lines(path):
        with expect_format(path, f"a file of answers and labels: see line {number}"):
            if int(row["label"]) != len(answers):
                raise ValueError(f"label {row['label']} where {len(answers)} is due")
            answers.append(str(row["answer"]))
    return answers
