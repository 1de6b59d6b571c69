"""Questions and answers of several splits as the two JSON files of the VQAv2 format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from .research_files import json_bytes
from .vqav2_source import Rows


def question_files(splits: Mapping[str, Rows], notes: Mapping[int, dict[str, Any]]) -> dict[str, Callable[[], bytes]]:
    """vqa/SPLIT_questions.json and, where there are answers, vqa/SPLIT_annotations.json.

    fit is train and trainable_val in one, which is what BEiT-3 trains on; without the former there is none.
    """
    parts = dict(splits)
    if "train" in splits:
        parts["fit"] = [*splits["train"], *splits.get("trainable_val", [])]
    files: dict[str, Callable[[], bytes]] = {}
    for name, rows in parts.items():
        files[f"vqa/{name}_questions.json"] = partial(_questions, rows)
        if not name.startswith("test"):
            files[f"vqa/{name}_annotations.json"] = partial(_annotations, rows, notes)
    return files


def _questions(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return json_bytes({"questions": rows})


def _annotations(rows: Iterable[Mapping[str, Any]], notes: Mapping[int, dict[str, Any]]) -> bytes:
    return json_bytes({"annotations": [notes[row["question_id"]] for row in rows]})
