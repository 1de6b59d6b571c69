"""The recipe for ImageNet-1k, in the layout that CLIP_benchmark reads for classification."""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..shards import Sample
from .files import listing, sha256
from .imagenet_classes import imagenet_classes, zero_shot_templates
from .plan import Dropped, Plan
from .research_files import expect_format, json_bytes, require_file, require_folder
from .research_jobs import clip_benchmark_files, record_jobs, text_file
from .research_options import BuildOptions, PictureOptions
from .research_pictures import load_picture, picture_sizes

EXPECTED = {"train": 1_281_167, "val": 50_000}  # Russakovsky et al. 2015
_SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")


@dataclass(frozen=True, kw_only=True)
class LabelledPicture:
    """A picture and its class; `path` is relative to the data set's folder, `label` counts classes from 0."""

    key: str
    path: str
    split: str
    wnid: str
    name: str
    label: int


def plan_imagenet(root: Path, options: BuildOptions, *, val_labels: Path | None = None, seed: int = 0) -> Plan:
    """`root` holds train/ with a folder for each class, and val/ laid out in the same way, or flat with `val_labels`.

    Args:
        val_labels: where val/ is flat, the class of each of its pictures: LOC_val_solution.csv, or a text file with a
            WordNet id a line in the order of the pictures' names.
        seed: of the order in which pictures go into shards; in the source they are sorted by class.

    Raises:
        ValueError: naming what is missing or is not as described.
    """
    folders = {split: require_folder(root / split) for split in EXPECTED}
    found = {"train": _in_class_folders(folders["train"])}
    found["val"] = _in_class_folders(folders["val"]) if val_labels is None else _flat(folders["val"], val_labels)
    splits = {
        split: _shuffled(_records(split, wnids), f"{seed} {split}")[: options.limit] for split, wnids in found.items()
    }
    jobs = {
        split: record_jobs(
            split,
            records,
            partial(make_sample, root, options.pictures),
            samples_per_shard=options.samples_per_shard,
            digits=1,
        )
        for split, records in splits.items()
    }
    source = {split: listing(root, [root / split / path for path in wnids]) for split, wnids in found.items()}
    return Plan(
        recipe="imagenet",
        arguments=options.arguments(seed=seed),
        jobs=[job for shards in jobs.values() for job in shards],
        files={
            **clip_benchmark_files(jobs, "classification"),
            "classnames.txt": text_file("".join(f"{name}\n" for name in imagenet_classes().values())),
            "zeroshot_classification_templates.txt": text_file("".join(f"{t}\n" for t in zero_shot_templates())),
        },
        facts={
            "licence": "ImageNet's terms of access: non-commercial research and education",
            "source": source | ({} if val_labels is None else {val_labels.name: sha256(val_labels)}),
            "counts": {f"{split} classes": len({r.wnid for r in records}) for split, records in splits.items()},
        },
        expected={} if options.limit else EXPECTED | {"train classes": 1000, "val classes": 1000},
    )


def _in_class_folders(folder: Path) -> dict[str, str]:
    """Path below the folder -> WordNet id."""
    found = {}
    for sub in sorted(folder.iterdir()):
        if not sub.is_dir():
            if sub.suffix.lower() in _SUFFIXES:
                raise ValueError(
                    f"{folder} holds pictures outside of class folders, like {sub.name}. Give the file with their "
                    "classes as --val_labels, or sort them into folders."
                )
            continue
        for path in sorted(sub.iterdir()):
            if path.suffix.lower() in _SUFFIXES:
                found[f"{sub.name}/{path.name}"] = sub.name
    return found


def _flat(folder: Path, labels: Path) -> dict[str, str]:
    names = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    lines = require_file(labels).read_text(encoding="utf-8", errors="replace").splitlines()
    if lines and lines[0].startswith("ImageId,"):
        with expect_format(labels, "a file of classes like LOC_val_solution.csv"):
            by_stem = {row["ImageId"]: row["PredictionString"].split()[0] for row in csv.DictReader(lines)}
        unknown = [name for name in names if name.partition(".")[0] not in by_stem]
        if unknown:
            raise ValueError(
                f"{labels} has no class for {unknown[0]} and {len(unknown) - 1} other pictures of {folder}"
            )
        return {name: by_stem[name.partition(".")[0]] for name in names}
    wnids = [line.strip() for line in lines if line.strip()]
    if wnids and wnids[0].isdigit():
        raise ValueError(
            f"{labels} holds the development kit's numbers, which are in another order than the labels that everybody "
            "uses. Give LOC_val_solution.csv, or a file with a WordNet id a line."
        )
    if len(wnids) != len(names):
        raise ValueError(
            f"{labels} has {len(wnids)} classes for the {len(names)} pictures of {folder}; they must be as many"
        )
    return dict(zip(names, wnids, strict=True))


def _records(split: str, wnids: Mapping[str, str]) -> list[LabelledPicture]:
    label_of = {wnid: label for label, wnid in enumerate(imagenet_classes())}
    for path, wnid in wnids.items():
        if wnid not in label_of:
            raise ValueError(
                f"{split}/{path}: {wnid!r} is not one of the 1,000 classes of ImageNet-1k. "
                "For other folders of pictures take the recipe 'folder'."
            )
    return [
        LabelledPicture(
            key=path.rpartition("/")[2].partition(".")[0],
            path=f"{split}/{path}",
            split=split,
            wnid=wnid,
            name=imagenet_classes()[wnid],
            label=label_of[wnid],
        )
        for path, wnid in wnids.items()
    ]


def _shuffled(records: list[LabelledPicture], seed: str) -> list[LabelledPicture]:
    return random.Random(seed).sample(records, len(records))


def make_sample(root: Path, options: PictureOptions, picture: LabelledPicture) -> Sample | Dropped:
    """KEY.jpg, KEY.cls with the label in digits, KEY.txt with the name of the class, KEY.json."""
    loaded = load_picture(root, picture.path, options)
    if isinstance(loaded, Dropped):
        return loaded
    facts = {
        "key": picture.key,
        "label": picture.label,
        "wnid": picture.wnid,
        "caption": picture.name,
        "filename": picture.path,
        "split": picture.split,
        **picture_sizes(loaded),
    }
    return Sample(
        key=picture.key,
        parts={
            loaded.extension: loaded.content,
            "cls": str(picture.label).encode(),
            "txt": picture.name.encode(),
            "json": json_bytes(facts),
        },
    )
