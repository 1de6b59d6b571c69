"""The recipe for NLVR2: a sentence about two pictures, true or false."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..shards import Sample
from .files import sha256
from .plan import Dropped, Plan
from .research_files import expect_format, json_bytes, one_line, read_json_lines
from .research_jobs import record_jobs
from .research_options import BuildOptions, PictureOptions
from .research_pictures import load_picture, picture_sizes

EXPECTED = {"train": 86_373, "dev": 6_982, "test1": 6_967}  # Suhr et al. 2019; test1 is the public test set, test-P
SPLITS = tuple(EXPECTED)
_LABELS = {"True": True, "False": False}


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One line of NLVR2's files; the paths of the pictures are relative to the data set's folder."""

    identifier: str
    sentence: str
    label: bool
    synset: str
    split: str
    left: str
    right: str

    @property
    def key(self) -> str:
        return self.identifier


def plan_nlvr2(root: Path, options: BuildOptions) -> Plan:
    """`root` holds images/train/, dev/ and test1/ (these two also below images/), and the repository lil-lab/nlvr.

    Raises ValueError, naming what is missing or is not as described.
    """
    files = {split: root / "nlvr" / "nlvr2" / "data" / f"{split}.json" for split in SPLITS}
    splits = {split: _read(path, split, _folder(root, split))[: options.limit] for split, path in files.items()}
    make = partial(make_sample, root, options.pictures)
    jobs = [
        job
        for split, records in splits.items()
        for job in record_jobs(split, records, make, samples_per_shard=options.samples_per_shard)
    ]
    return Plan(
        recipe="nlvr2",
        arguments=options.arguments(),
        jobs=jobs,
        facts={
            "licence": "sentences CC BY 4.0; the pictures are their owners', for research after signing NLVR2's form",
            "source": {path.name: sha256(path) for path in files.values()},
            "counts": {f"{split} true": sum(record.label for record in rows) for split, rows in splits.items()},
        },
        expected={} if options.limit else EXPECTED,
    )


def _folder(root: Path, split: str) -> str:
    for name in (f"images/{split}", split):
        if (root / name).is_dir():
            return name
    raise ValueError(f"{root} has neither a folder images/{split} nor {split}. See the recipe's card for the layout.")


def _read(path: Path, split: str, folder: str) -> list[Statement]:
    statements = []
    for number, row in read_json_lines(path):
        with expect_format(path, f"a file of NLVR2: see line {number}"):
            statements.append(_statement(row, split, folder))
    return statements


def _statement(row: Mapping[str, Any], split: str, folder: str) -> Statement:
    # An identifier is SPLIT-SET-PAIR-SENTENCE; the pictures of a pair are named without the sentence.
    pair = row["identifier"].rpartition("-")[0]
    if "directory" in row:  # only the training pictures lie in numbered folders
        folder = f"{folder}/{row['directory']}"
    return Statement(
        identifier=row["identifier"],
        sentence=one_line(row["sentence"]),
        label=_LABELS[row["label"]],
        synset=row["synset"],
        split=split,
        left=f"{folder}/{pair}-img0.png",
        right=f"{folder}/{pair}-img1.png",
    )


def make_sample(root: Path, options: PictureOptions, statement: Statement) -> Sample | Dropped:
    """KEY.left.png and KEY.right.png (one key, as it ends at the first dot), KEY.txt, KEY.cls (1 is true), KEY.json."""
    pictures = {}
    sizes = {}
    for side, name in (("left", statement.left), ("right", statement.right)):
        loaded = load_picture(root, name, options)
        if isinstance(loaded, Dropped):
            return Dropped(reason=loaded.reason, what=f"{loaded.what}, of {statement.identifier}")
        pictures[f"{side}.{loaded.extension}"] = loaded.content
        sizes[side] = picture_sizes(loaded)
    facts = {
        "key": statement.key,
        "identifier": statement.identifier,
        "label": statement.label,
        "synset": statement.synset,
        "split": statement.split,
        "filenames": [statement.left, statement.right],
        **sizes,
    }
    return Sample(
        key=statement.key,
        parts={
            **pictures,
            "txt": statement.sentence.encode(),
            "cls": str(int(statement.label)).encode(),
            "json": json_bytes(facts),
        },
    )
