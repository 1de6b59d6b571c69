from __future__ import annotations

from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mm_mhmoe.commands.sources import data_path


def index(shards: str, index_dir: Path | None = None, workers: int = 0) -> None:
    """Reads shards once from their first byte to their last and keeps where every sample lies.

    Shards that have a valid index are passed over, so a stopped command goes on where it was. Commands that read shards
    make missing indexes by themselves, in a folder of the user's (MM_MHMOE_CACHE, else ~/.cache/mm_mhmoe).

    Args:
        shards: a folder, glob, list or address of .tar files, or demo:train.
        index_dir: a folder for the indexes; default: beside the shards, as NNNNN.tar.index; those of remote
            shards in the user's folder.
        workers: shards that are read at the same time; 0: one for each processor.
    """
    from mm_mhmoe_data.shards import Shard, expand_shards
    from mm_mhmoe_data.shards.index_file import read_header
    from mm_mhmoe_data.shards.index_store import index_shards

    found = expand_shards(data_path(shards))
    columns = (TextColumn("shards"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("shards", total=len(found))
        read: list[Shard] = []

        def done(shard: Shard) -> None:
            read.append(shard)
            progress.advance(task)

        indexes = index_shards(found, index_dir, workers=workers or None, done=done)
    samples = sum(read_header(path)["samples"] for path in indexes)
    Console().print(
        f"data index: {samples:,} samples in {len(found):,} shards; {len(read):,} were read, the others had an index",
        highlight=False,
    )


def stats(
    shards: str,
    tokenizer: Path | None = None,
    max_length: int = 64,
    captions: Literal["auto", "lines", "whole", "languages"] = "auto",
) -> None:
    """Counts what shards hold and prints a table. What is wrong with them is found by `data validate`.

    Args:
        shards: a folder, glob, list or address of .tar files, or demo:train.
        tokenizer: directory of a text tokenizer: also says how long captions are in tokens, and how many would be cut.
        max_length: tokens that the model reads of a caption (text.max_length), begin and end token among them.
        captions: which captions a text holds, as data.captions.
    """
    from mm_mhmoe_data.shards import expand_shards
    from mm_mhmoe_data.stats import shard_stats
    from mm_mhmoe_data.token_lengths import token_lengths
    from mm_mhmoe_data.tokenizer import Tokenizer

    if max_length < 3:
        raise ValueError(f"max_length={max_length} must be 3 or more: begin, end, and something between them")
    words, found = Tokenizer.load(tokenizer) if tokenizer is not None else None, expand_shards(data_path(shards))
    table = shard_stats(found).table()
    if words is not None:
        for row in token_lengths(found, words, max_length=max_length, captions=captions).rows():
            table.add_row(*row)
    Console().print(table)


def preview(
    shards: str,
    out: Path,
    count: int = 24,
    seed: int = 0,
    image_mask: float = 0.4,
    text_mask: float = 0.5,
    grid: int = 14,
    tokenizer: Path | None = None,
    whole_word: bool = False,
    image_mask_kind: Literal["block", "random", "cube"] = "block",
    mask_unit: int = 2,
) -> None:
    """Draws a contact sheet (PNG) of pictures and captions, with the patches and words that masks hide.

    Args:
        shards: a folder, glob, list or address of .tar files, or demo:train.
        out: the PNG to write.
        count: pictures on the sheet.
        seed: of the choice and of the masks.
        image_mask: share of the patches to hide; 0: only the pictures.
        text_mask: share of the caption to hide; 0: nothing.
        grid: patches along one side (14: pictures of 224 pixels in patches of 16).
        tokenizer: directory of a text tokenizer, whose pieces are hidden; without it, words are.
        whole_word: hide all pieces of a word or none.
        image_mask_kind: which patches are hidden: block: rectangles; random: single patches; cube: squares.
        mask_unit: patches along one side of a cube.
    """
    from mm_mhmoe_data.masked_view import MaskOptions
    from mm_mhmoe_data.preview import contact_sheet
    from mm_mhmoe_data.shards import expand_shards
    from mm_mhmoe_data.tokenizer import Tokenizer

    masks = MaskOptions(
        image=image_mask,
        text=text_mask,
        grid=grid,
        seed=seed,
        tokenizer=Tokenizer.load(tokenizer) if tokenizer is not None else None,
        whole_word=whole_word,
        kind=image_mask_kind,
        unit=mask_unit,
    )
    contact_sheet(expand_shards(data_path(shards)), out, masks, n=count, seed=seed)
    Console().print(f"data preview: {out}", highlight=False)
