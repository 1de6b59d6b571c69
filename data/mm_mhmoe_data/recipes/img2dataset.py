"""The recipe for a folder that img2dataset wrote (CC3M, CC12M, ...): checked, filtered and numbered anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..shards import Sample, ShardError, iter_samples
from .files import listing
from .plan import Dropped, Plan, ShardJob, sample_key
from .research_files import expect_format, json_bytes, read_json, require_folder
from .research_options import PictureOptions
from .research_pictures import check_picture, picture_sizes

SPLIT = "train"
_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
_MOST_SAMPLES = 10_000  # what the four digits of a key can count


@dataclass(frozen=True, kw_only=True)
class PairFilter:
    """Which pairs are kept. Lengths are in characters, sides in pixels of the shard's picture; None sets no limit.

    max_aspect: of the longer to the shorter side.
    """

    min_side: int | None = None
    max_aspect: float | None = None
    min_caption: int = 1
    max_caption: int | None = None

    def __post_init__(self) -> None:
        if self.max_aspect is not None and self.max_aspect < 1:
            raise ValueError(f"max_aspect={self.max_aspect} must be at least 1, which keeps only squares")
        if self.max_caption is not None and self.max_caption < self.min_caption:
            raise ValueError(
                f"max_caption={self.max_caption} is below min_caption={self.min_caption}: nothing would be kept"
            )

    def objection(self, caption: str, width: int, height: int) -> str | None:
        """Why a pair is left out, or None."""
        short, long = sorted((width, height))
        if not caption and self.min_caption:
            return "empty caption"
        if len(caption) < self.min_caption:
            return f"caption of fewer than {self.min_caption} characters"
        if self.max_caption is not None and len(caption) > self.max_caption:
            return f"caption of more than {self.max_caption} characters"
        if self.min_side is not None and short < self.min_side:
            return f"side of fewer than {self.min_side} pixels"
        if self.max_aspect is not None and long > self.max_aspect * short:
            return f"more than {self.max_aspect:g} times as long as wide"
        return None


def plan_img2dataset(
    root: Path,
    pictures: PictureOptions,
    pairs: PairFilter,
    *,
    max_shards: int | None = None,
) -> Plan:
    """`root` holds 00000.tar, 00000_stats.json and so on. Each tar gives one shard.

    `max_shards` takes only the first so many, for a trial.
    Raises ValueError, naming what is missing or is not as described.
    """
    shards = sorted(require_folder(root).glob("*.tar"))
    if not shards:
        raise ValueError(
            f"{root} holds no .tar file. Run img2dataset with --output_format webdataset, and give its output."
        )
    if max_shards is not None and max_shards < 1:
        raise ValueError(f"max_shards={max_shards} must be at least 1, or not given for all")
    shards = shards[:max_shards]
    jobs = [
        ShardJob(path=f"{SPLIT}/{number:05d}.tar", make=partial(read_shard, root, shard.name, number, pictures, pairs))
        for number, shard in enumerate(shards)
    ]
    return Plan(
        recipe="img2dataset",
        arguments=asdict(pictures) | asdict(pairs) | {"max_shards": max_shards},
        jobs=jobs,
        facts={
            "licence": "that of each picture and caption, at the address in its .json",
            "source": listing(root, shards),
            "counts": {
                "shards": len(shards),
                "shards without a stats file": sum(not _stats_path(shard).is_file() for shard in shards),
            },
        },
    )


def read_shard(
    root: Path, name: str, number: int, options: PictureOptions, pairs: PairFilter
) -> Iterator[Sample | Dropped]:
    """The pairs of one tar. A damaged tar gives those before the damage, and then a Dropped that says so."""
    path = root / name
    seen = kept = 0
    try:
        for source in iter_samples(path):
            seen += 1
            made = make_sample(source, name, sample_key(number, kept), options, pairs)
            if isinstance(made, Sample):
                kept += 1
                if kept > _MOST_SAMPLES:
                    raise ValueError(f"{name} has more than {_MOST_SAMPLES} pairs, more than a shard's keys can count")
            yield made
    except ShardError as error:
        yield Dropped(reason="rest of a damaged shard", what=str(error).replace(str(path), name))
    stats = _stats_path(path)
    if stats.is_file():
        content = read_json(stats)
        with expect_format(stats, "a stats file of img2dataset"):
            successes = int(content["successes"])
        if successes != seen:
            yield Dropped(
                reason="shard with another count than its stats file", what=f"{name}: {seen} pairs, {successes} written"
            )


def make_sample(source: Sample, shard: str, key: str, options: PictureOptions, pairs: PairFilter) -> Sample | Dropped:
    """The pair under its new key; the old one stays in the .json as source_key."""
    what = f"{shard}: {source.key}"
    facts = _facts(source)
    if facts is None:
        return Dropped(reason=".json is not an object", what=what)
    if facts.get("status", "success") != "success":
        return Dropped(reason="status is not success", what=f"{what}: {facts['status']}")
    content = next((source.parts[extension] for extension in _EXTENSIONS if extension in source.parts), None)
    if content is None:
        return Dropped(reason="no picture", what=what)
    try:
        caption = source.parts.get("txt", b"").decode("utf-8").strip()
    except UnicodeDecodeError:
        return Dropped(reason="caption is not UTF-8", what=what)
    loaded = check_picture(content, what, options)
    if isinstance(loaded, Dropped):
        return loaded
    objection = pairs.objection(caption, loaded.original_width, loaded.original_height)
    if objection is not None:
        return Dropped(reason=objection, what=what)
    # The shard's picture may have been made smaller when it was downloaded: the size before that is in its .json.
    first: dict[str, Any] = {name: facts[name] for name in ("original_width", "original_height") if name in facts}
    facts = {**facts, **picture_sizes(loaded), **first, "key": key, "source_key": source.key}
    return Sample(key=key, parts={loaded.extension: loaded.content, "txt": caption.encode(), "json": json_bytes(facts)})


def _facts(source: Sample) -> dict[str, Any] | None:
    try:
        facts = json.loads(source.parts.get("json", b"{}"))
    except (ValueError, RecursionError):
        return None
    return facts if isinstance(facts, dict) else None


def _stats_path(shard: Path) -> Path:
    return shard.with_name(f"{shard.stem}_stats.json")
