"""The recipe for VQAv2 in BEiT-3's splits: the pictures as shards, questions and answers as files beside them."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..shards import Sample
from .answers import EXPECTED as EXPECTED_ANSWERS
from .answers import answers_file, beit3_answers
from .files import sha256
from .plan import Dropped, Plan
from .research_files import json_bytes, require_folder
from .research_jobs import record_jobs, text_file
from .research_options import BuildOptions, PictureOptions
from .research_pictures import load_picture, picture_sizes
from .vqav2_files import question_files
from .vqav2_source import ANNOTATIONS, FOLDERS, QUESTIONS, Rows, answerable, file_name, present_images, read_rows

EXPECTED = {"train questions": 443_757, "val questions": 214_354}  # Goyal et al. 2017
EXPECTED_TEST = {"test questions": 447_793, "test-dev questions": 107_394}


@dataclass(frozen=True, kw_only=True)
class AskedPicture:
    """A picture with the ids of its questions; `path` is relative to the data set's folder."""

    image_id: int
    path: str
    question_ids: tuple[int, ...]

    @property
    def key(self) -> str:
        return f"{self.image_id:09d}"


def plan_vqav2(
    root: Path,
    options: BuildOptions,
    *,
    rest_val: int = 1000,
    min_count: int = 9,
    seed: int = 0,
) -> Plan:
    """`root` holds train2014/, val2014/, perhaps test2015/, and the official files in vqa/ (or beside the folders).

    As in BEiT-3, train and val keep the questions that an answer of the vocabulary was given to, `rest_val` pictures
    of val are for choosing models and the others (trainable_val) for training. BEiT-3 drew those pictures without
    a seed; here the choice is a function of `seed`. Test sets are left out when their files are not there.

    Raises:
        ValueError: naming what is missing or is not as described.
    """
    if rest_val < 1:
        raise ValueError(f"rest_val={rest_val} must be at least 1")
    files = root / "vqa" if (root / "vqa").is_dir() else root
    names = ["train", "val", *(("test", "test-dev") if (files / QUESTIONS["test"]).exists() else ())]
    asked: dict[str, Rows] = {name: read_rows(files / QUESTIONS[name], "questions") for name in names}
    notes = {name: read_rows(files / file, "annotations") for name, file in ANNOTATIONS.items()}
    answers = beit3_answers(
        (note["multiple_choice_answer"] for name in notes for note in notes[name]), min_count=min_count
    )
    counts = {f"{name} questions": len(asked[name]) for name in names} | {"answers": len(answers)}

    answered = {name: answerable(notes[name], set(answers)) for name in notes}
    present = {name: present_images(require_folder(root / FOLDERS[name]), asked[name]) for name in names}
    kept = {name: _kept(asked[name], present[name], answered.get(name), options.limit) for name in names}
    if "test" in names:  # test-dev is a part of test; with a limit, what of it lies among those pictures
        shown = {row["image_id"] for row in kept["test"]}
        kept["test-dev"] = [row for row in asked["test-dev"] if row["image_id"] in shown]
    chosen = _chosen(kept["val"], rest_val, seed)
    splits = {
        "train": kept["train"],
        "trainable_val": [row for row in kept["val"] if row["image_id"] not in chosen],
        "rest_val": [row for row in kept["val"] if row["image_id"] in chosen],
        **{name: kept[name] for name in names if name.startswith("test")},
    }
    by_id = {note["question_id"]: note for rows in notes.values() for note in rows}
    unanswered = sum(len(asked[name]) for name in answered) - sum(map(len, answered.values()))
    return Plan(
        recipe="vqav2",
        arguments=options.arguments(rest_val=rest_val, min_count=min_count, seed=seed),
        jobs=[
            job
            for name, rows in splits.items()
            if name != "test-dev"  # its pictures are among those of test
            for job in record_jobs(
                name,
                _records(rows, name),
                partial(make_sample, root, options.pictures),
                samples_per_shard=options.samples_per_shard,
            )
        ],
        files={"answer2label.txt": text_file(answers_file(answers)), **question_files(splits, by_id)},
        facts={
            "licence": "questions and answers CC BY 4.0; pictures under the Flickr terms of use",
            "source": {
                name: sha256(files / name) for name in [*(QUESTIONS[name] for name in names), *ANNOTATIONS.values()]
            },
            "counts": counts | {"questions without an answer of the vocabulary": unanswered},
            "questions": {name: len(rows) for name, rows in splits.items()},
        },
        dropped=[
            Dropped(reason="picture is missing", what=f"{FOLDERS[name]}/{file_name(FOLDERS[name], image_id)}")
            for name in names
            if name != "test-dev"
            for image_id in dict.fromkeys(row["image_id"] for row in asked[name])
            if image_id not in present[name]
        ],
        expected=EXPECTED
        | (EXPECTED_TEST if "test" in names else {})
        | ({"answers": EXPECTED_ANSWERS} if min_count == 9 else {}),
    )


def _kept(rows: Rows, present: set[int], answered: set[int] | None, limit: int | None) -> Rows:
    rows = [row for row in rows if row["image_id"] in present and (answered is None or row["question_id"] in answered)]
    first = set(list(dict.fromkeys(row["image_id"] for row in rows))[:limit])
    return [row for row in rows if row["image_id"] in first]


def _chosen(rows: Rows, count: int, seed: int) -> set[int]:
    """`count` images, drawn by a hash so that the draw depends on nothing but the seed and the images."""
    images = {row["image_id"] for row in rows}
    if len(images) <= count:
        raise ValueError(
            f"rest_val={count} takes all {len(images)} val pictures that have questions, and leaves none to train on; "
            "give a smaller one"
        )
    return set(sorted(images, key=lambda image: hashlib.sha256(f"{seed} {image}".encode()).digest())[:count])


def _records(rows: Rows, split: str) -> list[AskedPicture]:
    folder = FOLDERS[{"trainable_val": "val", "rest_val": "val"}.get(split, split)]
    questions: dict[int, list[int]] = defaultdict(list)
    for row in rows:
        questions[row["image_id"]].append(row["question_id"])
    return [
        AskedPicture(image_id=image, path=f"{folder}/{file_name(folder, image)}", question_ids=tuple(ids))
        for image, ids in questions.items()
    ]


def make_sample(root: Path, options: PictureOptions, picture: AskedPicture) -> Sample | Dropped:
    """KEY.jpg, an empty KEY.txt (questions are no captions), KEY.json with the ids of the questions."""
    loaded = load_picture(root, picture.path, options)
    if isinstance(loaded, Dropped):
        return loaded
    facts = {
        "key": picture.key,
        "image_id": picture.image_id,
        "filename": picture.path,
        "question_ids": picture.question_ids,
        **picture_sizes(loaded),
    }
    return Sample(key=picture.key, parts={loaded.extension: loaded.content, "txt": b"", "json": json_bytes(facts)})
