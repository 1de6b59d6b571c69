"""The recipe `folder`: your own pictures with captions from a table, with classes from folders, or texts alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..shards import Sample
from .files import listing, sha256
from .folder_source import Entry, read_captioned, read_classes
from .hashed_split import SPLITS, Splitting
from .images import check_image_options, shard_image
from .pictures import PictureRejected
from .plan import Dropped, Plan, check_limit, sample_key, shard_jobs


def plan_folder(
    root: Path,
    *,
    captions: Path | None = None,
    image_column: str = "image",
    caption_column: str = "caption",
    split_column: str = "",
    licence: str = "unknown",
    image_size: int = 0,
    quality: int = 90,
    samples_per_shard: int = 1000,
    val: float = 0.0,
    test: float = 0.0,
    seed: int = 0,
    limit: int | None = None,
) -> Plan:
    """Pictures below `root`. With `captions`, a table's rows name them; without, their folders are their classes.

    Raises `ValueError` for unusable arguments and for a table or folder that cannot be read.
    """
    check_image_options(image_size, quality)
    check_limit(limit)
    if not root.is_dir():
        raise ValueError(f"root={str(root)!r} is no folder. Give the folder that the pictures are in.")
    splitting = Splitting(seed=seed, val=val, test=test)
    dropped: list[Dropped] = []
    if captions:
        entries, dropped = read_captioned(
            captions,
            image_column=image_column,
            caption_column=caption_column,
            split_column=split_column,
            splitting=splitting,
        )
        source: dict[str, Any] = {"table": captions.name, "table_sha256": sha256(captions)}
    else:
        entries = read_classes(root, splitting)
        source = listing(root, (root / entry.picture for entry in entries))
    classes = sorted({entry.label for entry in entries if entry.label})
    numbers = {name: number for number, name in enumerate(classes)}
    splits = {name: [entry for entry in entries if entry.split == name][:limit] for name in SPLITS}
    make = partial(_samples, root, numbers, licence, image_size, quality)
    return Plan(
        recipe="folder",
        arguments={
            "image_column": image_column,
            "caption_column": caption_column,
            "split_column": split_column,
            "licence": licence,
            "image_size": image_size,
            "quality": quality,
            "samples_per_shard": samples_per_shard,
            "val": val,
            "test": test,
            "seed": seed,
            "limit": limit,
        },
        jobs=shard_jobs(splits, make, samples_per_shard),
        files={"classnames.txt": partial(_lines, classes)} if classes else {},
        facts={"source": source, "licence": licence, "counts": {"classes": len(classes)}},
        dropped=dropped,
    )


def _lines(names: Sequence[str]) -> bytes:
    return "".join(f"{name}\n" for name in names).encode()


def _samples(
    root: Path,
    numbers: Mapping[str, int],
    licence: str,
    image_size: int,
    quality: int,
    shard: int,
    entries: Sequence[Entry],
) -> Iterator[Sample | Dropped]:
    for index, entry in enumerate(entries):
        key = sample_key(shard, index)
        facts: dict[str, Any] = {"key": key, "licence": licence}
        parts: dict[str, bytes] = {}
        if entry.picture:
            try:
                picture = shard_image(_read(root, entry.picture), image_size=image_size, quality=quality)
            except PictureRejected as error:
                yield Dropped(reason=error.reason, what=entry.picture)
                continue
            parts[picture.extension] = picture.content
            facts |= {
                "url": entry.picture,
                "width": picture.width,
                "height": picture.height,
                "original_width": picture.original_width,
                "original_height": picture.original_height,
            }
        if entry.captions:
            parts["txt"] = entry.captions[0].encode()
            facts |= {"caption": entry.captions[0], "captions": list(entry.captions)}
        if entry.label:
            parts["cls"] = str(numbers[entry.label]).encode()
            facts["class"] = entry.label
        parts["json"] = json.dumps(facts, ensure_ascii=False, separators=(",", ":")).encode()
        yield Sample(key=key, parts=parts)


def _read(root: Path, name: str) -> bytes:
    """The bytes of a picture, which a table must not fetch from outside of `root`."""
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise PictureRejected("picture outside of root")
    if not path.is_file():
        raise PictureRejected("picture file missing")
    return path.read_bytes()
