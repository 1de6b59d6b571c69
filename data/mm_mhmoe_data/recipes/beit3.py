"""The recipe for BEiT-3's index files with the folder of pictures that they refer to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from ..shards import Sample
from .answers import answers_file, read_answers_file
from .beit3_index import IndexRow, Task, find_index_files, read_index
from .beit3_text import SegmentText
from .beit3_vqa import vqa_files
from .files import sha256
from .plan import Dropped, Plan, ShardJob
from .research_files import json_bytes, one_line
from .research_jobs import clip_benchmark_files, record_jobs, text_file
from .research_options import BuildOptions, PictureOptions
from .research_pictures import load_picture, picture_sizes

ANSWERS = "answer2label.txt"
_LAYOUTS = {
    "coco_retrieval": "retrieval",
    "flickr30k": "retrieval",
    "coco_captioning": "retrieval",
    "nocaps": "retrieval",
    "imagenet": "classification",
}
"""CLIP_benchmark's name for the task; the others are not known to it."""


@dataclass(frozen=True, kw_only=True)
class IndexedPicture:
    """What becomes one sample: the lines about one picture, or one line about two. `paths` by the member's prefix."""

    key: str
    paths: Mapping[str, str]
    captions: tuple[str, ...]
    label: int | None
    facts: Mapping[str, Any]


def plan_beit3(root: Path, task: Task, options: BuildOptions, *, tokenizer: Path | None = None) -> Plan:
    """`root` holds the index files of the task and the pictures (for vqav2 also answer2label.txt).

    Args:
        tokenizer: beit3.spm. Texts are token ids in the index files; they become text again, and the ids go into .json.

    Raises:
        ValueError: naming what is missing or is not as described.
    """
    index = find_index_files(root, task)
    texts = SegmentText(tokenizer)
    rows = {split: _limited(read_index(path, task), options.limit) for split, path in index.items()}
    source = {path.name: sha256(path) for path in index.values()}
    files: dict[str, Callable[[], bytes]] = {}
    splits = {split: _pictures(path, rows[split], task, texts) for split, path in index.items()}
    if task == "vqav2":
        answers = read_answers_file(root / ANSWERS)
        source[ANSWERS] = sha256(root / ANSWERS)
        files = {ANSWERS: text_file(answers_file(answers)), **vqa_files(rows, texts, answers)}
        splits = _with_test_dev_in_test(splits)
    make = partial(make_sample, root, options.pictures)
    digits = 1 if task in _LAYOUTS else 5
    jobs: dict[str, list[ShardJob]] = {
        split: record_jobs(split, pictures, make, samples_per_shard=options.samples_per_shard, digits=digits)
        for split, pictures in splits.items()
    }
    if task in _LAYOUTS:
        files |= clip_benchmark_files(jobs, _LAYOUTS[task])
    return Plan(
        recipe="beit3",
        arguments=options.arguments(task=task),
        jobs=[job for shards in jobs.values() for job in shards],
        files=files,
        facts={
            "licence": "that of the data set",
            "source": source | ({} if tokenizer is None else {"tokenizer": sha256(tokenizer)}),
            "counts": {f"{split} lines": len(lines) for split, lines in rows.items()},
        },
    )


def _limited(rows: Sequence[IndexRow], limit: int | None) -> list[IndexRow]:
    """The lines about the first so many pictures."""
    first = set(list(dict.fromkeys(row.image_path for row in rows))[:limit])
    return [row for row in rows if row.image_path in first]


def _pictures(path: Path, rows: Sequence[IndexRow], task: Task, texts: SegmentText) -> list[IndexedPicture]:
    try:
        if task == "nlvr2":
            return [_pair(row, texts) for row in rows]
        by_path: dict[str, list[IndexRow]] = {}
        for row in rows:
            by_path.setdefault(row.image_path, []).append(row)
        return [_picture(group, task, texts) for group in by_path.values()]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _pair(row: IndexRow, texts: SegmentText) -> IndexedPicture:
    assert row.image2_path is not None
    return IndexedPicture(
        key=row.fields["identifier"],
        paths={"left.": row.image_path, "right.": row.image2_path},
        captions=(texts(row.segment),),
        label=row.fields["label"],
        facts={"identifier": row.fields["identifier"], "token_ids": [row.segment]},
    )


def _picture(rows: Sequence[IndexRow], task: Task, texts: SegmentText) -> IndexedPicture:
    first = rows[0]
    label: int | None = None
    facts: dict[str, Any] = {}
    captions: tuple[str, ...] = ()
    if task == "imagenet":
        label = first.fields["label"]
    elif task == "vqav2":  # questions are no captions
        facts = {"image_id": first.coco_id, "question_ids": [row.fields["qid"] for row in rows]}
    else:
        captions = tuple(texts(row.segment) for row in rows if row.segment is not None)
        facts = {"image_id": first.fields["image_id"], "token_ids": [row.segment for row in rows]}
    stem = PurePosixPath(first.image_path).name.partition(".")[0]
    return IndexedPicture(
        key=stem if first.coco_id is None else f"{first.coco_id:09d}",
        paths={"": first.image_path},
        captions=captions,
        label=label,
        facts=facts,
    )


def _with_test_dev_in_test(splits: Mapping[str, list[IndexedPicture]]) -> dict[str, list[IndexedPicture]]:
    """The pictures of test-dev are among those of test: each is written once."""
    merged = {split: pictures for split, pictures in splits.items() if split != "test-dev"}
    if "test-dev" in splits:
        known = {picture.key for picture in merged.get("test", [])}
        merged["test"] = [*merged.get("test", []), *(p for p in splits["test-dev"] if p.key not in known)]
    return merged


def make_sample(root: Path, options: PictureOptions, picture: IndexedPicture) -> Sample | Dropped:
    """KEY.jpg (KEY.left.jpg and KEY.right.jpg of a pair), KEY.txt with a text a line, KEY.json, KEY.cls if labelled."""
    parts: dict[str, bytes] = {}
    sizes = {}
    for prefix, path in picture.paths.items():
        loaded = load_picture(root, path, options)
        if isinstance(loaded, Dropped):
            return loaded
        parts[f"{prefix}{loaded.extension}"] = loaded.content
        sizes[path] = picture_sizes(loaded)
    parts["txt"] = "\n".join(map(one_line, picture.captions)).encode()
    if picture.label is not None:
        parts["cls"] = str(picture.label).encode()
    facts = {
        "key": picture.key,
        "captions": picture.captions,
        "label": picture.label,
        "pictures": sizes,
        **picture.facts,
    }
    return Sample(key=picture.key, parts={**parts, "json": json_bytes(facts)})
