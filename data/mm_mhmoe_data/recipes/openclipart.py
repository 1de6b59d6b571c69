"""The recipe `openclipart`: captioned drawings in the public domain, split without twins, with questions.

Everything is a function of the unpacked packages and the arguments: the same input gives the same bytes on
any number of workers.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..shards import write_shards
from .bar import Bar
from .card import write_card
from .clusters import Item, cluster_items
from .fingerprints import stack
from .leaks import find_leaks, read_entries
from .question_words import Picture, build_vocabulary
from .questions import Question, make_questions
from .records import LICENCE, make_sample, question_picture
from .source import Candidate, find_source, read_captions, render_candidates
from .splits import split_by_cluster
from .vqa_files import answer_distribution, question_only_score, write_vqa_files

RECIPE_VERSION = 4
SAMPLES_PER_SHARD = 500
SPLITS = ("train", "val", "test")


def build_openclipart(
    root: Path,
    out: Path,
    *,
    image_size: int = 96,
    quality: int = 45,
    seed: int = 0,
    test: int = 510,
    val: int = 250,
    max_train: int | None = 3480,
    max_questions: tuple[int | None, int | None, int | None] = (3600, 350, 1250),
    workers: int | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Build shards, questions, manifest and card in `out` from the packages unpacked in `root`.

    `quality` is the WebP quality, `test` and `val` the number of pictures wanted there. `max_train` and
    `max_questions` (train, val, test) are upper limits that keep the data set small; None takes all there is.
    `progress` is called with (done, total) instead of the progress bar.
    Returns the manifest. `out` appears only when all is complete and checked.
    Raises `ValueError` for unusable arguments and `RuntimeError` when the finished splits share a twin.
    """
    root, out = Path(root), Path(out)
    _check_arguments(out, image_size, quality, test, val, overwrite)
    source = find_source(root)
    dropped: Counter[str] = Counter()
    captions = read_captions(source, dropped)
    found = len(captions) + sum(dropped.values())
    with Bar(len(captions), progress) as advance:
        candidates = render_candidates(
            source,
            captions,
            dropped,
            image_size=image_size,
            quality=quality,
            workers=workers,
            advance=advance,
        )
    clusters = cluster_items(
        [Item(path=c.path, title=c.caption.title, caption=c.caption.text, series=c.caption.series) for c in candidates],
        stack([c.print for c in candidates]),
    )
    dropped.update(clusters.dropped)
    splits = split_by_cluster(candidates, clusters, dropped, seed=seed, test=test, val=val, max_train=max_train)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        manifest: dict[str, Any] = {
            "recipe": "openclipart",
            "recipe_version": RECIPE_VERSION,
            "source": {"distribution": "Debian", "packages": source.versions},
            "licence": LICENCE,
            "arguments": {
                "image_size": image_size,
                "quality": quality,
                "seed": seed,
                "test": test,
                "val": val,
                "max_train": max_train,
                "max_questions": list(max_questions),
            },
            "pictures_in_source": found,
            "dropped": dict(sorted(dropped.items())),
        }
        manifest |= _write_all(temporary, candidates, clusters.cluster, splits, seed, max_questions)
        _prove_clean(temporary, manifest)
        _finish(temporary, manifest)
        if overwrite and out.exists():
            shutil.rmtree(out)
        elif out.exists():
            out.rmdir()  # an empty folder; anything else was refused above
        os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return manifest


def _check_arguments(out: Path, image_size: int, quality: int, test: int, val: int, overwrite: bool) -> None:
    if not 32 <= image_size <= 512:
        raise ValueError(f"image_size={image_size} must lie between 32 and 512 pixels.")
    if not 10 <= quality <= 95:
        raise ValueError(f"quality={quality} must lie between 10 and 95.")
    for name, value in (("test", test), ("val", val)):
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1.")
    if out.exists() and not out.is_dir():
        raise ValueError(f"out={str(out)!r} is a file. Give a folder that does not exist yet.")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise ValueError(f"out={str(out)!r} is not empty. Give a new folder, or overwrite=True to replace it.")


def _write_all(
    out: Path,
    candidates: Sequence[Candidate],
    cluster: Sequence[int],
    splits: dict[str, list[int]],
    seed: int,
    max_questions: tuple[int | None, int | None, int | None],
) -> dict[str, Any]:
    counts: dict[str, Any] = {}
    pictures: dict[str, list[Picture]] = {}
    first = 0
    for name in SPLITS:
        samples = [
            make_sample(candidates[i], cluster[i], f"{first + n // SAMPLES_PER_SHARD:05d}{n % SAMPLES_PER_SHARD:04d}")
            for n, i in enumerate(splits[name])
        ]
        shards = write_shards(samples, out / name, first, SAMPLES_PER_SHARD)
        first += len(shards)
        pictures[name] = [
            question_picture(candidates[i], int(sample.key)) for i, sample in zip(splits[name], samples, strict=True)
        ]
        counts[name] = {
            "pictures": len(samples),
            "captions": len({candidates[i].caption.text for i in splits[name]}),
            "clusters": len({cluster[i] for i in splits[name]}),
            "shards": [f"{name}/{path.name}" for path, _ in shards],
        }
    vocabulary = build_vocabulary(pictures["train"])
    questions: dict[str, list[Question]] = {}
    for name, limit in zip(SPLITS, max_questions, strict=True):
        questions[name] = make_questions(pictures[name], vocabulary, seed=f"{seed} {name}", limit=limit)
        write_vqa_files(questions[name], out / "vqa", name)
        counts[name]["questions"] = len(questions[name])
    return {
        "splits": counts,
        "question_types": {name: answer_distribution(questions[name]) for name in SPLITS},
        "question_only_score_on_test": question_only_score(questions["train"], questions["test"]),
    }


def _prove_clean(out: Path, manifest: dict[str, Any]) -> None:
    entries = {name: read_entries([out / shard for shard in manifest["splits"][name]["shards"]]) for name in SPLITS}
    leaks = find_leaks(entries)
    if leaks:
        raise RuntimeError(f"the splits share {len(leaks)} twins, the first: {leaks[0]}. This is a recipe error.")


def _finish(out: Path, manifest: dict[str, Any]) -> None:
    write_card(out / "README.md", manifest)
    files = sorted(path for path in out.rglob("*") if path.is_file())
    manifest["sha256"] = {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
