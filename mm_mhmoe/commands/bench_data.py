from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mm_mhmoe_data import pictures as decoding
from mm_mhmoe_data.bench_shards import make_bench_shards
from mm_mhmoe_data.loader_bench import (
    Work,
    decode_only,
    decode_only_by_pil,
    open_clip_pipeline,
    open_clip_with_its_tokenizer,
    ours,
    ours_as_floats,
    run,
    webdataset_pipeline,
)
from mm_mhmoe_data.loading_parts import BYTES, decoders, indexers, picture_bytes, readers, resizers
from mm_mhmoe_data.shards import expand_shards
from mm_mhmoe_data.tokenizer import Tokenizer, train_tokenizer
from mm_mhmoe_eval.files import write_text_atomic
from rich.console import Console
from rich.table import Table

from mm_mhmoe.analysis.timing import Timing, interleave, other_cpu_seconds, own_cpu_seconds
from mm_mhmoe.commands.sources import data_path
from mm_mhmoe.process import switches

LIMIT, OPEN_CLIP = "decode only", "open_clip"
Loader = Callable[[Work, int], Iterable[Any]]
LOADERS: Mapping[str, Loader] = {
    LIMIT: decode_only,
    "decode only, by PIL": decode_only_by_pil,
    "ours": ours,
    "ours, made floats": ours_as_floats,
    "webdataset": webdataset_pipeline,
    OPEN_CLIP: open_clip_pipeline,
    "open_clip, own BPE": open_clip_with_its_tokenizer,
}
_PARTS = 256  # pictures of the timings in one thread


def data(
    shards: str = "demo:train",
    pictures: Path | None = None,
    cache: Path | None = None,
    tokenizer: Path | None = None,
    workers: list[int] | None = None,
    batch_size: int = 64,
    batches: int = 60,
    image_size: int = 224,
    samples: int = 5,
    busy_cores: float = 0.25,
    out: Path | None = None,
) -> None:
    """Times loading: reading, indexing, decoding and resizing in one thread, then whole loaders against each other.

    All whole loaders do the same work on a sample: decode, bicubic random crop of at least .9 of the area to
    image_size, token ids. Contestants take turns, in reversed order every other round; numbers are medians. What ran
    while other programs were busy does not count.

    open_clip is its training loader, put together again from its stages (the wheel does not hold that code); it and
    webdataset give normalised floats. Ours gives uint8, which the model normalises by way of its weights; "made floats"
    is what it takes to normalise them outside. CPU μs: a sample's share of all processes' time from start to end of a
    run. MB: of all processes, early and at the end of a run.

    Args:
        shards: pairs to load: a folder, glob, list or address of .tar files, or demo:train.
        pictures: instead of shards: a folder of pictures, of which up to 4,000 JPEGs of 256 pixels are made once.
        cache: folder for what is made of pictures.
        tokenizer: directory of a text tokenizer; without it, one is trained on the captions.
        workers: processes of the whole loaders, one table each. Default: 0, 1, 2.
        batch_size: samples of a batch.
        batches: batches of one run; at most an epoch is taken.
        image_size: side of the resized pictures.
        samples: runs of each contestant that shall count.
        busy_cores: a run does not count if other programs used more cores than this.
        out: a JSON file to write.
    """
    if samples < 1 or batches < 2:
        raise ValueError(f"samples={samples} must be 1 or more, and batches={batches} 2 or more")
    paths = [
        shard.local()
        for shard in expand_shards(str(_shards_of(pictures, cache)) if pictures is not None else data_path(shards))
    ]
    torch.set_num_threads(1)
    console = Console()
    load, cores = os.getloadavg()[0], os.cpu_count()
    console.print(
        f"torch {torch.__version__}, one thread a process; load {load:.1f} on {cores} cores; {switches()}; "
        f"JPEGs are decoded by {decoding.DECODER}",
        highlight=False,
    )
    contents = picture_bytes(paths)
    count = min(batches, len(contents) // batch_size)
    if count < 2:
        raise ValueError(f"{len(contents)} pictures are less than two batches of {batch_size}; lower batch_size")
    parts = _time_parts(console, paths, contents, image_size, samples, busy_cores)
    with TemporaryDirectory() as folder:
        words = Tokenizer.load(tokenizer) if tokenizer is not None else _train(paths, Path(folder))
        work = Work(shards=paths, tokenizer=words, batch_size=batch_size, image_size=image_size)
        whole = {}
        for number in [0, 1, 2] if workers is None else workers:
            with console.status(f"whole loaders, {number} workers"):
                whole[number] = _time_loaders(work, number, count, samples, busy_cores)
            console.print(_loader_table(number, whole[number]))
    if out is not None:
        facts = {"torch": torch.__version__, "cores": cores, "load": load, "decoder": decoding.DECODER}
        write_text_atomic(out, json.dumps({**facts, "parts": parts, "loaders": whole}, indent=1) + "\n")


def _shards_of(pictures: Path, cache: Path | None) -> Path:
    if cache is None:
        raise ValueError("pictures is given without cache; name a folder for the shards that are made: --cache DIR")
    cache.mkdir(parents=True, exist_ok=True)
    return make_bench_shards(pictures, cache / "bench-shards")


def _train(paths: list[Path], folder: Path) -> Tokenizer:
    from mm_mhmoe_data.pipeline import ShardDataset

    dataset = ShardDataset(paths)
    return Tokenizer(train_tokenizer([dataset.caption(i) for i in range(len(dataset))], folder, vocab_size=4000))


def _time_parts(
    console: Console, paths: list[Path], contents: list[bytes], image_size: int, samples: int, busy_cores: float
) -> dict[str, dict[str, dict[str, float]]]:
    some = contents[:: max(1, len(contents) // _PARTS)][:_PARTS]
    groups = {
        "read": (readers(paths), len(contents)),
        "index": (indexers(paths), len(contents)),
        "decode": (decoders(some), len(some)),
        "resize": (resizers(some, image_size), len(some)),
    }
    found = {}
    for title, (ways, count) in groups.items():
        with console.status(title):
            timings = interleave(ways, samples=samples, busy_cores=busy_cores)
        found[title] = {name: _rates(timing, count) for name, timing in timings.items()}
        console.print(_part_table(title, found[title]))
    return found


def _rates(timing: Timing, count: int) -> dict[str, float]:
    return {
        "samples_per_second": count / timing.median,
        "range": timing.spread,
        "samples": len(timing.samples),
        "dropped": timing.dropped,
    }


def _part_table(title: str, rows: dict[str, dict[str, float]]) -> Table:
    table = Table(title=f"{title}, one thread", title_justify="left")
    table.add_column("")
    for name in ("samples/s", "range", "microseconds", *(["/ bytes"] if BYTES in rows else [])):
        table.add_column(name, justify="right")
    for name, row in rows.items():
        rate = row["samples_per_second"]
        cells = [f"{rate:,.0f}", f"{row['range']:.0%}", f"{1e6 / rate:.1f}"]
        if BYTES in rows:
            cells.append(f"{rate / rows[BYTES]['samples_per_second']:.2f}")
        table.add_row(name, *(cells if row["samples"] else ["busy"]))
    return table


def _time_loaders(work: Work, workers: int, count: int, samples: int, busy_cores: float) -> dict[str, dict[str, Any]]:
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in LOADERS}
    dropped = dict.fromkeys(LOADERS, 0)
    for turn in range(2 * samples + 2):
        waiting = [name for name in LOADERS if len(runs[name]) < samples]
        for name in waiting if turn % 2 == 0 else reversed(waiting):
            loader = LOADERS[name](work, workers)
            others, own, start = other_cpu_seconds(), own_cpu_seconds(), time.perf_counter()
            one = run(loader, count, work.batch_size)
            del loader  # ends the workers, whose time is known only then
            if other_cpu_seconds() - others < busy_cores * (time.perf_counter() - start):
                cpu = 1e6 * (own_cpu_seconds() - own) / (count * work.batch_size)
                runs[name].append({**asdict(one), "cpu_microseconds": cpu})
            else:
                dropped[name] += 1
    return {name: {**_summary(runs[name]), "dropped": dropped[name]} for name in LOADERS}


def _summary(runs: list[dict[str, float]]) -> dict[str, Any]:
    if not runs:
        return {"samples_per_second": float("nan"), "samples": 0}
    medians = {name: statistics.median(one[name] for one in runs) for name in runs[0]}
    rates = [one["samples_per_second"] for one in runs]
    return {**medians, "range": (max(rates) - min(rates)) / medians["samples_per_second"], "samples": len(runs)}


def _loader_table(workers: int, rows: dict[str, dict[str, Any]]) -> Table:
    ours = rows["ours"]
    memory = "" if not ours["samples"] else f", MB with ours {ours['memory_start']:,.0f} to {ours['memory_end']:,.0f}"
    table = Table(title=f"whole loaders, {workers} workers{memory}", title_justify="left")
    table.add_column("", no_wrap=True)
    for name in ("samples/s", "range", "/ decode", "/ open_clip", "CPU μs"):
        table.add_column(name, justify="right", no_wrap=True)
    limit, theirs = (rows[name]["samples_per_second"] for name in (LIMIT, OPEN_CLIP))
    for name, row in rows.items():
        rate = row["samples_per_second"]
        ratios = f"{rate / limit:.2f}", f"{rate / theirs:.1f}"
        cells = f"{rate:,.0f}", f"{row.get('range', 0):.0%}", *ratios, f"{row.get('cpu_microseconds', 0):,.0f}"
        table.add_row(name, *(cells if row["samples"] else ["busy"]))
    return table
