"""BEiT-3's index files: one picture (or pair of pictures) and one text a line.

Field names: beit3/datasets.py of github.com/microsoft/unilm, whose `make_dataset_index` functions write the files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from .research_files import expect_format, read_json_lines

Task = Literal["vqav2", "nlvr2", "coco_retrieval", "flickr30k", "coco_captioning", "nocaps", "imagenet"]
_KARPATHY = ("train", "val", "test")
_VQA = ("train", "trainable_val", "rest_val", "test", "test-dev")
FILES: dict[str, dict[str, str]] = {
    "vqav2": {split: f"vqa.{split}.jsonl" for split in _VQA},
    "nlvr2": {split: f"nlvr2.{split}.index.jsonl" for split in ("train", "dev", "test-P")},
    **{
        task: {split: f"{task}.{split}.jsonl" for split in _KARPATHY}
        for task in ("coco_retrieval", "flickr30k", "coco_captioning")
    },
    "nocaps": {split: f"nocaps.{split}.jsonl" for split in ("val", "test")},
    "imagenet": {split: f"imagenet.{split}.index.jsonl" for split in ("train", "val")},
}
_FIELDS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "vqav2": {"qid": int, "labels": lambda row: [int(x) for x in row], "scores": lambda row: [float(x) for x in row]},
    "nlvr2": {"label": int, "identifier": str},
    "imagenet": {"label": int},
}
"""What a line must have beside pictures and text; the other tasks have image_id."""
_TEXTLESS = ("coco_captioning", "nocaps", "imagenet")  # where a line may be without a text

Segment = list[int] | str
"""A text as token ids, which BEiT-3's functions write, or as it is, which its loader takes as well."""


@dataclass(frozen=True, kw_only=True)
class IndexRow:
    """One line. `fields` are those beside pictures and text: image_id, label, identifier, qid, labels, scores."""

    image_path: str
    image2_path: str | None
    segment: Segment | None
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def coco_id(self) -> int | None:
        """The image id in the name of a COCO picture."""
        found = re.fullmatch(r"COCO_\w+_(\d{12})", PurePosixPath(self.image_path).stem)
        return int(found.group(1)) if found else None


def find_index_files(root: Path, task: Task) -> dict[str, Path]:
    """Split -> file, for those of the task that are there. Raises ValueError when there is none."""
    files = {split: root / name for split, name in FILES[task].items() if (root / name).is_file()}
    if not files:
        raise ValueError(
            f"{root} holds no index file of task {task!r}: looked for {', '.join(FILES[task].values())}. "
            "BEiT-3's make_dataset_index functions write them."
        )
    return files


def read_index(path: Path, task: Task) -> list[IndexRow]:
    """All lines of an index file. Raises ValueError, naming the line, where one is not of the task's form."""
    rows = []
    for number, row in read_json_lines(path):
        with expect_format(path, f"an index file of BEiT-3's task {task}: see line {number}"):
            rows.append(_row(row, task))
    return rows


def _row(row: dict[str, Any], task: str) -> IndexRow:
    fields = dict(row)
    result = IndexRow(
        image_path=str(fields.pop("image_path")),
        image2_path=str(fields.pop("image2_path")) if task == "nlvr2" else None,
        segment=fields.pop("text_segment", None) if task in _TEXTLESS else fields.pop("text_segment"),
        fields=fields,
    )
    for name, check in _FIELDS.get(task, {"image_id": int}).items():
        fields[name] = check(fields[name])
    if result.segment is None:
        if task not in _TEXTLESS:
            raise ValueError("text_segment is null")
    elif not isinstance(result.segment, str) and {type(piece) for piece in result.segment} != {int}:
        raise TypeError("text_segment holds no token ids")
    return result
