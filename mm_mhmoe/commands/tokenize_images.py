from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import torch
from mm_mhmoe_data.cached_codes import MANIFEST, check_recipe, code_recipe, write_manifest
from mm_mhmoe_data.config import DataConfig
from mm_mhmoe_data.parallel import map_in_order, worker_count
from mm_mhmoe_data.pipeline import Parts, ShardDataset
from mm_mhmoe_data.shards import expand_shards
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mm_mhmoe.commands.code_jobs import CodeJob, run_job
from mm_mhmoe.commands.picture_target import load_tokenizer
from mm_mhmoe.commands.sources import data_path, own_shards
from mm_mhmoe.models.checkpoints import fingerprint
from mm_mhmoe.training.trainer import Precision, choose_precision


def tokenize_images(
    visual_tokenizer: Path,
    out: Path,
    shards: str = "demo:train",
    streams: Literal["both", "images", "pairs"] = "both",
    epochs: int = 1,
    min_scale: float = 0.5,
    seed: int = 0,
    precision: Precision = "auto",
    accelerator: Literal["auto", "cpu", "gpu"] = "auto",
    workers: int = 0,
    data: DataConfig = DataConfig(),  # noqa: B008  (frozen)
) -> None:
    """Computes the codes of pictures as pretraining will crop them, for pretrain --data.codes.

    Crops, flips and colours of a sample depend on seed, epoch, key and stream, so they are made here as they will be
    made there: give the same options. Shards that are done are passed over; more epochs are added to what is there.

    Args:
        visual_tokenizer: directory of the visual tokenizer (mm-mhmoe vqkd).
        out: folder for the codes, two bytes a patch, sample, epoch and stream.
        shards: as in pretrain: a folder, glob, list or address of .tar files, or demo:train.
        streams: which streams of pretraining; each has crops of its own.
        epochs: how often pretraining will see each sample: steps * batch / samples, rounded up. For later epochs it
            runs the visual tokenizer.
        min_scale: as in pretrain.
        seed: as run.seed of pretrain.
        precision: as run.precision of pretrain; auto is the same on the same machine.
        accelerator: as run.accelerator of pretrain.
        workers: shards that are worked on at the same time; 0: one for each processor.
        data: as in pretrain; image_shards, flip, color_jitter, interpolation and captions matter.
    """
    if epochs < 1:
        raise ValueError(f"epochs={epochs} must be 1 or more")
    tokenizer, data, processes = load_tokenizer(visual_tokenizer), own_shards(data), worker_count(workers or None)
    recipe = code_recipe(
        data,
        tokenizer=fingerprint(visual_tokenizer),
        precision=choose_precision(precision, accelerator),
        image_size=tokenizer.config.vision.image_size,
        min_scale=min_scale,
        seed=seed,
    )
    common = {
        "tokenizer": visual_tokenizer,
        "recipe": recipe,
        "data": data,
        "epochs": epochs,
        "device": "cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu",
        "threads": 1 if processes > 1 else 0,
    }
    jobs: list[CodeJob] = []
    wanted: tuple[Parts, ...] = ("images", "pairs") if streams == "both" else (streams,)
    for stream in wanted:
        named = data.image_shards if stream == "images" and data.image_shards else data_path(shards)
        jobs += _stream_jobs(stream, named, out / stream, common)
    columns = (TextColumn("shards"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    computed = unreadable = passed = 0
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("shards", total=len(jobs))
        with closing(map_in_order(run_job, jobs, processes)) as results:
            for done in results:
                computed, unreadable = computed + done.computed, unreadable + done.unreadable
                passed += not any(done)
                progress.advance(task)
    lost = f"; {unreadable:,} could not be read and have none" if unreadable else ""
    Console().print(
        f"data tokenize-images: codes of {computed:,} crops ({' and '.join(wanted)}) -> {out}{lost}; {passed:,} of "
        f"{len(jobs):,} files had these {epochs} epochs before",
        highlight=False,
    )


def _stream_jobs(stream: Parts, shards: str, folder: Path, common: dict[str, Any]) -> list[CodeJob]:
    """A job for each shard, and the manifest. Raises ValueError if the folder holds codes of another recipe."""
    found = {shard.place: shard for shard in expand_shards(shards)}
    used = ShardDataset(list(found.values()), stream).used_shards()
    recipe, epochs, names = common["recipe"], common["epochs"], {}
    if (folder / MANIFEST).is_file():
        manifest = check_recipe(folder, recipe)
        names, epochs = manifest["shards"], max(epochs, manifest["epochs"])
    write_manifest(folder, recipe, {**names, **{sha256: str(shard) for shard, sha256 in used}}, epochs)
    # One shard may lie in two places; its codes are the same.
    jobs = {
        sha256: CodeJob(shard=shard, sha256=sha256, stream=stream, folder=folder, **common) for shard, sha256 in used
    }
    return list(jobs.values())
