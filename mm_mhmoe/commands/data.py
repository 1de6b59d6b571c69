from __future__ import annotations

from pathlib import Path

from rich.console import Console

from mm_mhmoe.commands.sources import data_path


def stats(shards: str) -> None:
    """Counts what shards hold and prints a table.

    Args:
        shards: a directory, glob or brace range of .tar files, or demo:train.
    """
    from mm_mhmoe_data.shards import expand_shards
    from mm_mhmoe_data.stats import shard_stats

    Console().print(shard_stats(expand_shards(data_path(shards))).table())


def preview(shards: str, out: Path, count: int = 24, seed: int = 0) -> None:
    """Draws a contact sheet (PNG) of pictures and their captions.

    Args:
        shards: a directory, glob or brace range of .tar files, or demo:train.
        out: the PNG to write.
        count: pictures on the sheet.
        seed: of the choice.
    """
    from mm_mhmoe_data.preview import contact_sheet
    from mm_mhmoe_data.shards import expand_shards

    contact_sheet(expand_shards(data_path(shards)), out, n=count, seed=seed)
    Console().print(f"data preview: {out}", highlight=False)
