"""The recipe `tuxpaint`: Tux Paint's stamps, drawings and photos with captions in many languages."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from ..parallel import map_in_order
from ..shards import Sample
from .bar import Bar
from .clusters import Item, cluster_items
from .files import listing
from .fingerprints import Fingerprint, fingerprint, stack
from .hashed_split import SPLITS, Splitting, in_hashed_order
from .images import ShardImage, check_image_options, shard_image
from .packages import package_version
from .pictures import PictureRejected
from .plan import Dropped, Plan, check_limit, sample_key, shard_jobs
from .svg import check_resvg, draw_svg
from .tuxpaint_stamps import PACKAGE, Stamp, find_stamps, read_stamps

LICENCE = "GPL-2"
CREDITS = "Tux Paint stamps, copyright 2002-2022 by Bill Kendrick and the authors of the stamps"
_FINGERPRINT_SIDE = 96
_LARGEST_EVALUATION_CLUSTER = 4


def plan_tuxpaint(
    root: Path,
    *,
    image_size: int = 224,
    quality: int = 80,
    samples_per_shard: int = 500,
    val: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    limit: int | None = None,
    svg: bool = True,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Plan:
    """The stamps of the package unpacked in `root`; planning looks at every picture, to keep twins together.

    Pictures that look alike, and equal captions, are in one split; large families are in train; a caption comes
    once in val and test. Raises `ValueError` for unusable arguments, a missing source, and drawings without resvg.
    """
    check_image_options(image_size, quality)
    splitting = Splitting(seed=seed, val=val, test=test)
    check_limit(limit)
    folder = find_stamps(root)
    stamps, dropped = read_stamps(folder, svg=svg)
    if any(stamp.picture.endswith(".svg") for stamp in stamps):
        check_resvg()
    stamps = stamps[:limit]
    usable, prints = _look(folder, stamps, dropped, workers, progress)
    splits = _split(usable, prints, dropped, splitting)
    return Plan(
        recipe="tuxpaint",
        arguments={
            "image_size": image_size,
            "quality": quality,
            "samples_per_shard": samples_per_shard,
            "val": val,
            "test": test,
            "seed": seed,
            "limit": limit,
            "svg": svg,
        },
        jobs=shard_jobs(splits, partial(_samples, folder, image_size, quality), samples_per_shard),
        facts={
            "source": {
                "distribution": "Debian",
                "package": PACKAGE,
                "version": package_version(root, PACKAGE),
                **listing(folder, (path for path in folder.rglob("*") if path.suffix in (".png", ".svg", ".txt"))),
            },
            "licence": LICENCE,
            "counts": {"captioned pictures": len(usable), "languages": len(_languages(usable))},
            "languages": _languages(usable),
        },
        dropped=dropped,
        expected={} if limit or not svg else {"captioned pictures": 950, "languages": 78},
    )


def _look(
    folder: Path,
    stamps: Sequence[Stamp],
    dropped: list[Dropped],
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[Stamp], list[Fingerprint]]:
    """The stamps whose picture can be decoded, with its fingerprint."""
    usable, prints = list[Stamp](), list[Fingerprint]()
    bar = Bar(len(stamps), progress, unit="pictures looked at")
    with bar as advance, closing(map_in_order(partial(_fingerprint, folder), stamps, workers, chunk=32)) as prints_made:
        for stamp, made in zip(stamps, prints_made, strict=True):
            advance(1)
            if isinstance(made, str):
                dropped.append(Dropped(reason=made, what=stamp.picture))
            else:
                usable.append(stamp)
                prints.append(made)
    return usable, prints


def _fingerprint(folder: Path, stamp: Stamp) -> Fingerprint | str:
    try:
        return fingerprint(_picture(folder, stamp, _FINGERPRINT_SIDE, 90).content)
    except PictureRejected as error:
        return error.reason


def _picture(folder: Path, stamp: Stamp, image_size: int, quality: int) -> ShardImage:
    path = folder / stamp.picture
    content = draw_svg(path, image_size) if path.suffix == ".svg" else path.read_bytes()
    return shard_image(content, image_size=image_size, quality=quality)


def _split(
    stamps: Sequence[Stamp],
    prints: list[Fingerprint],
    dropped: list[Dropped],
    splitting: Splitting,
) -> dict[str, list[Stamp]]:
    captions = [stamp.captions["en"] for stamp in stamps]
    items = [
        # a mirrored or numbered stamp has a path of its own but the same title
        Item(path=stamp.path, title=caption.lower(), caption=caption, series=stamp.path)
        for stamp, caption in zip(stamps, captions, strict=True)
    ]
    clusters = cluster_items(items, stack(prints)).cluster
    sizes = Counter(clusters)
    splits: dict[str, list[Stamp]] = {name: [] for name in SPLITS}
    seen: dict[str, set[str]] = defaultdict(set)
    for i in in_hashed_order([stamp.path for stamp in stamps], splitting.seed):
        split = splitting.of(stamps[clusters[i]].path)
        if sizes[clusters[i]] > _LARGEST_EVALUATION_CLUSTER:
            split = "train"
        if split != "train" and captions[i] in seen[split]:
            dropped.append(Dropped(reason="caption that val or test already has", what=stamps[i].picture))
            continue
        seen[split].add(captions[i])
        splits[split].append(stamps[i])
    return splits


def _samples(
    folder: Path, image_size: int, quality: int, shard: int, stamps: Sequence[Stamp]
) -> Iterator[Sample | Dropped]:
    for index, stamp in enumerate(stamps):
        picture = _picture(folder, stamp, image_size, quality)
        key = sample_key(shard, index)
        facts = {
            "key": key,
            "caption": stamp.captions["en"],
            "captions": dict(stamp.captions),
            "url": stamp.picture,
            "status": "success",
            "width": picture.width,
            "height": picture.height,
            "original_width": picture.original_width,
            "original_height": picture.original_height,
            "category": stamp.category,
            "noflip": stamp.noflip,
            "credits": CREDITS,
            "licence": LICENCE,
        }
        yield Sample(
            key=key,
            parts={
                picture.extension: picture.content,
                "txt": stamp.captions["en"].encode(),
                "json": json.dumps(facts, ensure_ascii=False, separators=(",", ":")).encode(),
            },
        )


def _languages(stamps: Sequence[Stamp]) -> list[str]:
    return sorted({language for stamp in stamps for language in stamp.captions})
