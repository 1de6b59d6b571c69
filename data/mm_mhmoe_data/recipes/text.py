"""The recipe `text`: text-only shards from plain files, JSON lines, Wikipedia's extracted text, or the Bible."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from ..shards import Sample
from .files import listing
from .hashed_split import SPLITS, Splitting
from .plan import Dropped, Plan, ShardJob, sample_key
from .text_source import Document, Layout, Piece, TextSource, find_pieces

Unit = Literal["document", "paragraph"]


def plan_text(
    root: Path,
    *,
    layout: Layout = "txt",
    unit: Unit = "document",
    text_field: str = "text",
    id_field: str = "id",
    language: str = "",
    licence: str = "unknown",
    val: float = 0.01,
    test: float = 0.01,
    seed: int = 0,
    shard_bytes: int = 32 << 20,
) -> Plan:
    """The text in the file or folder `root`, about `shard_bytes` of source a shard.

    A document's id alone says which split it is in, so that its paragraphs stay together and the split stays the
    same when the source grows. Every split is read from the whole source, which costs time but no memory.
    Raises `ValueError` for unusable arguments and a source without files.
    """
    splitting = Splitting(seed=seed, val=val, test=test)
    if shard_bytes < 1024:
        raise ValueError(f"shard_bytes={shard_bytes} must be at least 1024.")
    pieces = find_pieces(root, layout, shard_bytes)
    source = TextSource(root=root, layout=layout, text_field=text_field, id_field=id_field)
    make = partial(_samples, source, splitting, unit, {"language": language, "licence": licence})
    jobs: list[ShardJob] = []
    for split, share in zip(SPLITS, (1 - val - test, val, test), strict=True):
        for part in _parts(pieces, shard_bytes / share) if share else ():
            jobs.append(ShardJob(path=f"{split}/{len(jobs):05d}.tar", make=partial(make, split, part, len(jobs))))
    base = root.parent if root.is_file() else root
    return Plan(
        recipe="text",
        arguments={
            "layout": layout,
            "unit": unit,
            "text_field": text_field,
            "id_field": id_field,
            "language": language,
            "licence": licence,
            "val": val,
            "test": test,
            "seed": seed,
            "shard_bytes": shard_bytes,
        },
        jobs=jobs,
        facts={"source": listing(base, sorted({base / piece.path for piece in pieces})), "licence": licence},
    )


def _parts(pieces: Sequence[Piece], most: float) -> Iterator[list[Piece]]:
    """Pieces in runs of at most `most` bytes."""
    part, held = list[Piece](), 0
    for piece in pieces:
        size = piece.end - piece.start
        if part and held + size > most:
            yield part
            part, held = [], 0
        part.append(piece)
        held += size
    yield part


def _samples(
    source: TextSource,
    splitting: Splitting,
    unit: Unit,
    common: dict[str, str],
    split: str,
    pieces: Sequence[Piece],
    shard: int,
) -> Iterator[Sample | Dropped]:
    index = 0
    for document in (document for piece in pieces for document in source.read(piece)):
        if isinstance(document, Dropped):
            if split == "train":  # every split reads the whole source; what is unusable is told once
                yield document
        elif splitting.of(document.id) == split:
            for number, text in enumerate(_texts(document, unit)):
                yield _sample(document, text, number, sample_key(shard, index), common)
                index += 1


def _texts(document: Document, unit: Unit) -> Sequence[str]:
    return document.paragraphs if unit == "paragraph" else ["\n".join(document.paragraphs)]


def _sample(document: Document, text: str, paragraph: int, key: str, common: dict[str, str]) -> Sample:
    facts = {"key": key, "id": document.id, "paragraph": paragraph, **document.facts, **common}
    return Sample(
        key=key,
        parts={
            "txt": text.encode(),
            "json": json.dumps(facts, ensure_ascii=False, separators=(",", ":")).encode(),
        },
    )
