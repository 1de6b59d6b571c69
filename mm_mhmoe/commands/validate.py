from __future__ import annotations

import sys
from json import dumps
from pathlib import Path
from typing import Literal

from mm_mhmoe_eval.files import write_text_atomic
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mm_mhmoe.commands.sources import data_path


def validate(
    shards: str,
    parts: Literal["pairs", "images", "texts"] = "pairs",
    decode: bool = True,
    min_side: int = 0,
    strict: bool = False,
    json: Path | None = None,
    salvage: Path | None = None,
    examples: int = 3,
    workers: int = 0,
) -> None:
    """Looks for everything that is wrong with shards: damage, samples that cannot be used, names, counts, checksums.

    Prints findings by kind, with shard, member and byte, and what to do. Exit code 1 if there are errors, that is,
    findings that make training refuse a shard or give up a sample, or contradict a count or checksum; warnings alone
    end in 0.

    Args:
        shards: a folder, glob, list or address of .tar files, or demo:train.
        parts: what every sample should have.
        decode: decodes all pictures; false: only looks at their headers, which is several times as fast.
        min_side: warns of pictures with a smaller side, in pixels.
        strict: exit code 1 for warnings too.
        json: a JSON file to write: counts, shards and findings (of one kind and shard at most 1000).
        salvage: an empty folder; shards with errors are written there anew, from their intact samples.
        examples: findings of each kind that are shown.
        workers: shards that are read at the same time; 0: one for each processor.
    """
    from mm_mhmoe_data.shards import expand_shards
    from mm_mhmoe_data.validation import Checks, validate_shards
    from mm_mhmoe_data.validation.report import as_json, as_text, summary

    if min_side < 0 or examples < 0 or workers < 0:
        raise ValueError(f"min_side={min_side}, examples={examples} and workers={workers} must not be negative")
    if salvage is not None and salvage.exists() and (not salvage.is_dir() or any(salvage.iterdir())):
        raise ValueError(f"salvage={salvage} must be an empty folder, or not exist")
    paths = [shard.local() for shard in expand_shards(data_path(shards))]
    columns = (TextColumn("shards"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("shards", total=len(paths))
        report = validate_shards(
            paths,
            Checks(parts=parts, decode=decode, min_side=min_side),
            salvage_to=salvage,
            workers=workers or None,
            done=lambda shard: progress.advance(task),
        )
    console = Console(highlight=False)
    for line in as_text(report, examples):
        console.print(line)
    if json is not None:
        write_text_atomic(json, dumps(as_json(report), indent=1, ensure_ascii=False) + "\n")
    if salvage is not None:
        saved = [shard for shard in report.shards if shard.salvaged is not None]
        lost = sum(shard.samples - (shard.salvaged or 0) for shard in saved)
        console.print(
            f"salvage: {sum(shard.salvaged or 0 for shard in saved):,} samples of {len(saved):,} shards with errors "
            f"-> {salvage}; {lost:,} left out"
        )
    console.print(f"data validate: {summary(report)}")
    if report.number("error") or (strict and report.number("warning")):
        sys.exit(1)
