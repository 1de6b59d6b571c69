"""COCO and Flickr30k in Karpathy's splits, in the layout that CLIP_benchmark reads for retrieval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ..shards import Sample
from .files import sha256
from .plan import Dropped, Plan
from .research_files import expect_format, json_bytes, one_line, read_json
from .research_jobs import clip_benchmark_files, record_jobs
from .research_options import BuildOptions, PictureOptions
from .research_pictures import load_picture, picture_sizes

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class KarpathyPicture:
    """One picture of dataset_coco.json or dataset_flickr30k.json; `path` is relative to the data set's folder."""

    key: str
    path: str
    split: str
    image_id: int
    captions: tuple[str, ...]
    sentids: tuple[int, ...]

    @property
    def filename(self) -> str:
        return self.path.rpartition("/")[2]


def read_karpathy(path: Path, dataset: Literal["coco", "flickr30k"]) -> list[KarpathyPicture]:
    """All pictures of the file in its order. Raises ValueError when it is another file."""
    content = read_json(path)
    with expect_format(path, f"Karpathy's file of the data set {dataset}"):
        if content["dataset"] != dataset:
            raise ValueError(f"it says that it is {content['dataset']!r}")
        return [_picture(row, dataset) for row in content["images"]]


def _picture(row: Mapping[str, Any], dataset: str) -> KarpathyPicture:
    name = row["filename"]
    coco = dataset == "coco"
    return KarpathyPicture(
        key=f"{row['cocoid']:09d}" if coco else name.partition(".")[0],
        path=f"{row['filepath']}/{name}" if coco else f"flickr30k-images/{name}",
        split=row["split"],
        image_id=row["cocoid"] if coco else row["imgid"],
        captions=tuple(sentence["raw"] for sentence in row["sentences"]),
        sentids=tuple(sentence["sentid"] for sentence in row["sentences"]),
    )


def plan_karpathy(
    root: Path,
    dataset: Literal["coco", "flickr30k"],
    *,
    licence: str,
    expected: Mapping[str, int],
    options: BuildOptions,
) -> Plan:
    """Train (with restval, as usual), val and test."""
    annotations = root / f"dataset_{dataset}.json"
    splits: dict[str, list[KarpathyPicture]] = {split: [] for split in SPLITS}
    for picture in read_karpathy(annotations, dataset):
        split = "train" if picture.split == "restval" else picture.split
        if split not in splits:
            raise ValueError(f"{annotations}: {picture.path} is in the split {picture.split!r}, which is not known")
        splits[split].append(picture)
    splits = {split: rows[: options.limit] for split, rows in splits.items()}
    make = partial(make_sample, root, options.pictures)
    jobs = {
        split: record_jobs(split, rows, make, samples_per_shard=options.samples_per_shard, digits=1)
        for split, rows in splits.items()
    }
    return Plan(
        recipe=dataset,
        arguments=options.arguments(),
        jobs=[job for split in SPLITS for job in jobs[split]],
        files=clip_benchmark_files(jobs, "retrieval"),
        facts={
            "licence": licence,
            "source": {annotations.name: sha256(annotations)},
            "counts": {f"{split} captions": sum(len(p.captions) for p in rows) for split, rows in splits.items()},
        },
        expected={} if options.limit else expected,
    )


def make_sample(root: Path, options: PictureOptions, picture: KarpathyPicture) -> Sample | Dropped:
    """KEY.jpg, KEY.txt with a caption a line, KEY.json with the captions as they were written."""
    loaded = load_picture(root, picture.path, options)
    if isinstance(loaded, Dropped):
        return loaded
    lines = [line for caption in picture.captions if (line := one_line(caption))]
    if not lines:
        return Dropped(reason="no caption", what=picture.path)
    facts = {
        "key": picture.key,
        "image_id": picture.image_id,
        "filename": picture.filename,
        "split": picture.split,
        "captions": picture.captions,
        "sentids": picture.sentids,
        **picture_sizes(loaded),
    }
    return Sample(
        key=picture.key,
        parts={loaded.extension: loaded.content, "txt": "\n".join(lines).encode(), "json": json_bytes(facts)},
    )
