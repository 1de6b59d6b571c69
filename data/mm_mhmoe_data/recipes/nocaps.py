"""The recipe for NoCaps: captions of Open Images pictures, many of things that COCO does not show."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..shards import Sample
from .files import sha256
from .plan import Dropped, Plan
from .research_files import expect_format, json_bytes, one_line, read_json
from .research_jobs import clip_benchmark_files, record_jobs
from .research_options import BuildOptions, PictureOptions
from .research_pictures import load_picture, picture_sizes

EXPECTED = {"val": 4_500, "test": 10_600}  # Agrawal et al. 2019
VAL, TEST = "nocaps_val_4500_captions.json", "nocaps_test_image_info.json"


@dataclass(frozen=True, kw_only=True)
class NocapsPicture:
    """One picture; `path` is relative to the data set's folder. The test set has no captions, and no public domain."""

    image_id: int
    path: str
    open_images_id: str | None
    domain: str | None
    split: str
    captions: tuple[str, ...]

    @property
    def key(self) -> str:
        return f"{self.image_id:09d}"


def plan_nocaps(root: Path, options: BuildOptions) -> Plan:
    """`root` holds val/ and nocaps_val_4500_captions.json, and test/ and nocaps_test_image_info.json if wanted.

    Raises ValueError, naming what is missing or is not as described.
    """
    files = {"val": root / VAL} | ({"test": root / TEST} if (root / TEST).exists() else {})
    splits = {split: read_nocaps(path, split)[: options.limit] for split, path in files.items()}
    make = partial(make_sample, root, options.pictures)
    jobs = {
        split: record_jobs(split, records, make, samples_per_shard=options.samples_per_shard, digits=1)
        for split, records in splits.items()
    }
    return Plan(
        recipe="nocaps",
        arguments=options.arguments(),
        jobs=[job for shards in jobs.values() for job in shards],
        files=clip_benchmark_files(jobs, "retrieval"),
        facts={
            "licence": "captions CC BY 2.0; pictures of Open Images, mostly CC BY 2.0",
            "source": {path.name: sha256(path) for path in files.values()},
            "counts": dict(Counter(f"val {record.domain}" for record in splits["val"])),
        },
        expected={} if options.limit else {split: EXPECTED[split] for split in files},
    )


def read_nocaps(path: Path, split: str) -> list[NocapsPicture]:
    """The pictures of one file in its order."""
    content = read_json(path)
    captions: dict[int, list[str]] = defaultdict(list)
    with expect_format(path, "a file of NoCaps"):
        for row in content.get("annotations", ()):
            captions[row["image_id"]].append(row["caption"])
        return [_picture(row, split, captions.get(row["id"], ())) for row in content["images"]]


def _picture(row: Mapping[str, Any], split: str, captions: Sequence[str]) -> NocapsPicture:
    return NocapsPicture(
        image_id=row["id"],
        path=f"{split}/{row['file_name']}",
        open_images_id=row.get("open_images_id"),
        domain=row.get("domain"),
        split=split,
        captions=tuple(captions),
    )


def make_sample(root: Path, options: PictureOptions, picture: NocapsPicture) -> Sample | Dropped:
    """KEY.jpg, KEY.txt with a caption a line (empty in the test set), KEY.json."""
    loaded = load_picture(root, picture.path, options)
    if isinstance(loaded, Dropped):
        return loaded
    lines = [line for caption in picture.captions if (line := one_line(caption))]
    if not lines and picture.split == "val":
        return Dropped(reason="no caption", what=picture.path)
    facts = {
        "key": picture.key,
        "image_id": picture.image_id,
        "open_images_id": picture.open_images_id,
        "domain": picture.domain,
        "filename": picture.path,
        "split": picture.split,
        "captions": picture.captions,
        **picture_sizes(loaded),
    }
    return Sample(
        key=picture.key,
        parts={loaded.extension: loaded.content, "txt": "\n".join(lines).encode(), "json": json_bytes(facts)},
    )
