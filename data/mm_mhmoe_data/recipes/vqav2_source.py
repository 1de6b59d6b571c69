"""The official files of VQAv2, and which pictures belong to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .research_files import expect_format, read_json

Rows = list[dict[str, Any]]

FOLDERS = {"train": "train2014", "val": "val2014", "test": "test2015", "test-dev": "test2015"}
QUESTIONS = {
    name: f"v2_OpenEnded_mscoco_{'test-dev2015' if name == 'test-dev' else folder}_questions.json"
    for name, folder in FOLDERS.items()
}
ANNOTATIONS = {name: f"v2_mscoco_{FOLDERS[name]}_annotations.json" for name in ("train", "val")}


def read_rows(path: Path, part: str) -> Rows:
    """The rows of an official file; `part` is "questions" or "annotations". Raises ValueError for another file."""
    rows = read_json(path)
    needed = ("question_id", "image_id", "question" if part == "questions" else "multiple_choice_answer")
    with expect_format(path, f"a VQAv2 {part} file"):
        rows = rows[part]
        for row in rows:
            for name in needed:
                row[name]
            file_name("", row["image_id"])  # fails unless it is a number
            if part == "annotations":
                [answer["answer"] for answer in row["answers"]]
    return rows


def answerable(notes: Rows, answers: set[str]) -> set[int]:
    """The questions that somebody answered with a word of the vocabulary, compared as written."""
    return {note["question_id"] for note in notes if any(answer["answer"] in answers for answer in note["answers"])}


def file_name(folder: str, image_id: int) -> str:
    """COCO's name of a picture."""
    return f"COCO_{folder}_{image_id:012d}.jpg"


def present_images(folder: Path, rows: Rows) -> set[int]:
    """The images that are asked about and are there: BEiT-3 too leaves out questions whose picture is missing."""
    there = {path.name for path in folder.iterdir()}
    return {row["image_id"] for row in rows if file_name(folder.name, row["image_id"]) in there}
