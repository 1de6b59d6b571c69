"""The recipe for Visual Genome: the phrases about regions of a picture are its captions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..shards import Sample
from .files import sha256
from .karpathy import read_karpathy
from .plan import Dropped, Plan
from .research_files import expect_format, json_bytes, one_line, read_json, require_folder
from .research_jobs import record_jobs
from .research_options import BuildOptions, PictureOptions
from .research_pictures import load_picture, picture_sizes

EXPECTED = {"train": 108_077}  # pictures of version 1.2 and later
FOLDERS = ("VG_100K", "VG_100K_2")


@dataclass(frozen=True, kw_only=True)
class Region:
    """A phrase, and the box in pixels of the original picture that it was written about: x, y, width, height."""

    phrase: str
    region_id: int
    box: tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class GenomePicture:
    """One picture. `coco_split` is that of the same picture in Karpathy's file, if it has to be left out."""

    image_id: int
    path: str
    coco_id: int | None
    flickr_id: int | None
    coco_split: str | None
    regions: tuple[Region, ...]

    @property
    def key(self) -> str:
        return f"{self.image_id:09d}"


def plan_visual_genome(
    root: Path,
    options: BuildOptions,
    *,
    max_phrases: int | None = None,
    karpathy: Path | None = None,
) -> Plan:
    """`root` holds VG_100K/, VG_100K_2/, region_descriptions.json and image_data.json; all is one split, train.

    Args:
        max_phrases: at most so many different phrases of a picture, the first in the file; None takes all.
        karpathy: dataset_coco.json. About half of the pictures are COCO's too: those in COCO's val and test splits
            are left out.

    Raises:
        ValueError: naming what is missing or is not as described.
    """
    if max_phrases is not None and max_phrases < 1:
        raise ValueError(f"max_phrases={max_phrases} must be at least 1, or not given for all")
    held_out: dict[int, str] = {}
    if karpathy is not None:
        held_out = {p.image_id: p.split for p in read_karpathy(karpathy, "coco") if p.split in ("val", "test")}
    paths = _picture_paths(root)
    pictures, regions = root / "image_data.json", root / "region_descriptions.json"
    phrases = _read_regions(regions, max_phrases)
    rows = read_json(pictures)
    with expect_format(pictures, "Visual Genome's image_data.json"):
        records = [_record(row, paths, phrases, held_out) for row in rows][: options.limit]
    sources = [pictures, regions, *([karpathy] if karpathy is not None else [])]
    return Plan(
        recipe="visual-genome",
        arguments=options.arguments(max_phrases=max_phrases, without_coco_val_and_test=karpathy is not None),
        jobs=record_jobs(
            "train", records, partial(make_sample, root, options.pictures), samples_per_shard=options.samples_per_shard
        ),
        facts={
            "licence": "CC BY 4.0; pictures under the Flickr terms of use",
            "source": {path.name: sha256(path) for path in sources},
            "counts": {
                "phrases": sum(len(record.regions) for record in records),
                "pictures that are in COCO": sum(record.coco_id is not None for record in records),
            },
        },
        expected={} if options.limit or karpathy is not None else EXPECTED,
    )


def _picture_paths(root: Path) -> dict[str, str]:
    """File name -> path, of the pictures in both folders."""
    return {
        path.name: f"{folder}/{path.name}"
        for folder in FOLDERS
        for path in sorted(require_folder(root / folder).iterdir())
    }


def _read_regions(path: Path, max_phrases: int | None) -> dict[int, tuple[Region, ...]]:
    content = read_json(path)
    with expect_format(path, "Visual Genome's region_descriptions.json"):
        return {row["id"]: tuple(_different(row["regions"]))[:max_phrases] for row in content}


def _different(rows: Sequence[Mapping[str, Any]]) -> Iterable[Region]:
    """Without repetitions: several people often wrote the same about one thing."""
    seen: set[str] = set()
    for row in rows:
        phrase = one_line(row["phrase"])
        if not phrase or phrase.lower() in seen:
            continue
        seen.add(phrase.lower())
        box = (row["x"], row["y"], row["width"], row["height"])
        yield Region(phrase=phrase, region_id=row["region_id"], box=box)


def _record(
    row: Mapping[str, Any],
    paths: Mapping[str, str],
    regions: Mapping[int, tuple[Region, ...]],
    held_out: Mapping[int, str],
) -> GenomePicture:
    name = f"{row['image_id']}.jpg"
    coco_id = row["coco_id"]
    return GenomePicture(
        image_id=row["image_id"],
        path=paths.get(name, f"{FOLDERS[0]}/{name}"),
        coco_id=coco_id,
        flickr_id=row["flickr_id"],
        coco_split=None if coco_id is None else held_out.get(coco_id),
        regions=regions.get(row["image_id"], ()),
    )


def make_sample(root: Path, options: PictureOptions, picture: GenomePicture) -> Sample | Dropped:
    """KEY.jpg, KEY.txt with a phrase a line, KEY.json with the regions."""
    if picture.coco_split is not None:
        return Dropped(reason=f"in COCO's {picture.coco_split} split", what=picture.path)
    if not picture.regions:
        return Dropped(reason="no phrase", what=picture.path)
    loaded = load_picture(root, picture.path, options)
    if isinstance(loaded, Dropped):
        return loaded
    facts = {
        "key": picture.key,
        "image_id": picture.image_id,
        "coco_id": picture.coco_id,
        "flickr_id": picture.flickr_id,
        "filename": picture.path,
        "captions": [region.phrase for region in picture.regions],
        "region_ids": [region.region_id for region in picture.regions],
        "boxes": [region.box for region in picture.regions],
        **picture_sizes(loaded),
    }
    text = "\n".join(region.phrase for region in picture.regions)
    return Sample(
        key=picture.key, parts={loaded.extension: loaded.content, "txt": text.encode(), "json": json_bytes(facts)}
    )
