from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mm_mhmoe_eval.files import write_text_atomic
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mm_mhmoe.commands.sources import data_path


def overlap(
    shards: str,
    against: str,
    distance: int = 16,
    ids: list[str] | None = None,
    out: Path | None = None,
    exclude: Path | None = None,
    sheet: Path | None = None,
    examples: int = 5,
    workers: int = 0,
) -> None:
    """Finds pictures of one set of shards that occur in another: a training set's in a test set, say.

    Looks for equal bytes, equal pixels, and near-duplicates: the same picture in another size, format or quality, or
    one that differs in a detail. Crops, rotations and mirror images are not found.

    Args:
        shards: the set that is searched, of any size: a folder, glob, list or address of .tar files, or demo:train.
        against: the set whose pictures are looked for; it is held in memory, about 850 bytes a picture.
        distance: bits of 64 in which the perceptual hashes of near-duplicates may differ; 0 to 31. Where `against` has
            hundreds of thousands of pictures, 8 is many times as fast as 16.
        ids: fields of the .json whose equal values count as well, such as '[coco_id,url]'.
        out: a JSON file to write: counts, and every match.
        exclude: a text file to write: shard and key, with a tab between, of each sample of `shards` that occurs in
            `against`.
        sheet: a PNG to write: matches side by side, the most doubtful first.
        examples: matches that are shown.
        workers: shards that are read at the same time; 0: one for each processor.
    """
    from mm_mhmoe_data.overlap import find_overlap
    from mm_mhmoe_data.overlap.sheet import draw_pairs
    from mm_mhmoe_data.shards import expand_shards

    if examples < 0 or workers < 0:
        raise ValueError(f"examples={examples} and workers={workers} must not be negative")
    mine, others = ([shard.local() for shard in expand_shards(data_path(spec))] for spec in (shards, against))
    columns = (TextColumn("shards"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("shards", total=len(mine) + len(others))
        found = find_overlap(
            mine,
            others,
            distance=distance,
            id_fields=ids or (),
            workers=workers or None,
            done=lambda: progress.advance(task),
        )
    counts = found.counts
    console = Console(highlight=False)
    if found.matches and examples:
        table = Table("sample", "occurs as", "by", "bits", "cells")
        for one in found.matches[:examples]:
            bits = f"{one.phash_bits}+{one.dhash_bits}"
            table.add_row(one.key, one.other_key, ", ".join(one.kinds), bits, f"{one.changed:.0%}")
        console.print(table)
    if out is not None:
        numbers = {name: getattr(found, name) for name in ("pictures", "others", "unreadable", "others_hit")}
        facts: dict[str, Any] = {"distance": distance, **numbers, "counts": dict(counts)}
        write_text_atomic(
            out, json.dumps({**facts, "matches": [one._asdict() for one in found.matches]}, indent=1) + "\n"
        )
    if exclude is not None:
        keys = dict.fromkeys((Path(one.shard).resolve(), one.key) for one in found.matches)
        write_text_atomic(exclude, "".join(f"{shard}\t{key}\n" for shard, key in keys))
    if sheet is not None:
        draw_pairs(found.matches, sheet)
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in counts.items() if kind != "samples")
    console.print(
        f"data overlap: {counts['samples']:,} of {found.pictures:,} samples occur in {against}"
        f"{f' ({kinds})' if kinds else ''}, {found.others_hit:,} of whose {found.others:,} pictures are concerned"
        + (f"; {found.unreadable:,} pictures could not be decoded" if found.unreadable else "")
    )
