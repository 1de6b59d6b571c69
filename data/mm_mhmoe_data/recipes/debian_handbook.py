"""The recipe `debian-handbook`: one book in 26 languages, a paragraph a sample, whole chapters held out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from ..shards import Sample
from .files import listing
from .handbook_pages import ENGLISH, PACKAGE, Block, find_books, read_blocks, read_chapters
from .hashed_split import SPLITS, in_hashed_order
from .packages import package_version
from .plan import Dropped, Plan, ShardJob, sample_key

LICENCE = "GPL-2+ or CC-BY-SA-3.0"
_FRONT_MATTER = ("index", "preface", "foreword")

Page = tuple[str, str]  # chapter, page


def plan_debian_handbook(
    root: Path,
    *,
    languages: Sequence[str] | None = None,
    val_chapters: int = 1,
    test_chapters: int = 2,
    samples_per_shard: int = 5000,
    seed: int = 0,
) -> Plan:
    """The book unpacked in `root`, in all its languages or some ("fr-FR").

    The same chapters are held out in every language. What is not translated, that is equal to the English text, is
    dropped. Raises `ValueError` for unusable arguments and a missing source.
    """
    books = find_books(root)
    there = sorted(path.name for path in books.iterdir() if (path / "index.html").is_file())
    chosen = _chosen(languages, there)
    chapters = read_chapters(books / ENGLISH)
    proper = [name for name in chapters if name not in _FRONT_MATTER]
    splits = _split_chapters(proper, val_chapters, test_chapters, seed)
    english = {page: read_blocks(books / ENGLISH / f"{page}.html") for pages in chapters.values() for page in pages}
    lengths = {page: len(blocks) for page, blocks in english.items()}
    jobs: list[ShardJob] = []
    for split in SPLITS:
        pages = [(name, page) for name in chapters if splits.get(name, "train") == split for page in chapters[name]]
        for language in chosen:
            for part in _parts(pages, lengths, samples_per_shard):
                make = partial(_samples, books, language, part, len(jobs))
                jobs.append(ShardJob(path=f"{split}/{len(jobs):05d}.tar", make=make))
    return Plan(
        recipe="debian-handbook",
        arguments={
            "languages": chosen,
            "val_chapters": val_chapters,
            "test_chapters": test_chapters,
            "samples_per_shard": samples_per_shard,
            "seed": seed,
        },
        jobs=jobs,
        facts={
            "source": {
                "distribution": "Debian",
                "package": PACKAGE,
                "version": package_version(root, PACKAGE),
                **listing(books, books.glob("*/*.html")),
            },
            "licence": LICENCE,
            "counts": {"languages": len(chosen), "pages": len(lengths), "blocks a language": sum(lengths.values())},
            "held_out": {name: sorted(c for c in chapters if splits.get(c) == name) for name in ("val", "test")},
        },
        expected={} if languages else {"languages": 26, "pages": 127},
    )


def _chosen(languages: Sequence[str] | None, there: list[str]) -> list[str]:
    missing = sorted(set(languages or []) - set(there))
    if missing:
        raise ValueError(f"languages={missing} are not in the source. It has {', '.join(there)}.")
    return [name for name in there if not languages or name in languages]


def _split_chapters(chapters: Sequence[str], val: int, test: int, seed: int) -> dict[str, str]:
    if val < 0 or test < 0 or val + test >= len(chapters):
        raise ValueError(
            f"val_chapters={val} and test_chapters={test} must leave some of the {len(chapters)} chapters to train on."
        )
    order = [chapters[i] for i in in_hashed_order(chapters, seed)]
    return {name: "test" for name in order[:test]} | {name: "val" for name in order[test : test + val]}


def _parts(pages: Sequence[Page], lengths: Mapping[str, int], samples_per_shard: int) -> Iterator[list[Page]]:
    """Pages in runs of at most `samples_per_shard` blocks; a longer page is a run of its own."""
    if samples_per_shard < 1:
        raise ValueError(f"samples_per_shard={samples_per_shard} must be at least 1.")
    part, held = list[Page](), 0
    for chapter, page in pages:
        if part and held + lengths[page] > samples_per_shard:
            yield part
            part, held = [], 0
        part.append((chapter, page))
        held += lengths[page]
    if part:
        yield part


def _samples(books: Path, language: str, pages: Sequence[Page], shard: int) -> Iterator[Sample | Dropped]:
    index = 0
    for chapter, page in pages:
        path = books / language / f"{page}.html"
        if not path.is_file():
            yield Dropped(reason="page missing in this language", what=f"{language}/{page}.html")
            continue
        english = read_blocks(books / ENGLISH / f"{page}.html")
        blocks = read_blocks(path)
        if len(blocks) != len(english):
            raise ValueError(f"{path} has {len(blocks)} paragraphs and titles, the English page {len(english)}.")
        for number, block in enumerate(blocks):
            paragraph = f"{page}/{number:04d}"
            reason = _unusable(block, None if language == ENGLISH else english[number])
            if reason:
                yield Dropped(reason=reason, what=f"{language}/{paragraph}")
                continue
            key = sample_key(shard, index)
            index += 1
            facts = {
                "key": key,
                "language": language,
                "id": page,
                "chapter": chapter,
                "paragraph": paragraph,
                "kind": block.kind,
                "licence": LICENCE,
            }
            yield Sample(
                key=key,
                parts={"txt": block.text.encode(), "json": json.dumps(facts, separators=(",", ":")).encode()},
            )


def _unusable(block: Block, english: Block | None) -> str:
    if not any(sign.isalpha() for sign in block.text):
        return "no words beside a listing, list or link"
    return "not translated" if english and block.bare == english.bare else ""
