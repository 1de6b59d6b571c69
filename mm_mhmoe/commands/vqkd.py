from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import torch
from mm_mhmoe_data.config import DataConfig
from mm_mhmoe_data.datamodules import PictureDataModule
from mm_mhmoe_data.quarantine import QUARANTINE_FILE

from mm_mhmoe.commands.fast_dev_run import fast_dev_run
from mm_mhmoe.commands.run_dir import finish_run, open_run, provenance
from mm_mhmoe.commands.sources import data_path, own_shards
from mm_mhmoe.models.teachers import build_teacher
from mm_mhmoe.models.visual_tokenizer import VisualTokenizer, VisualTokenizerConfig
from mm_mhmoe.training.health import code_advice
from mm_mhmoe.training.interrupted import is_first_process
from mm_mhmoe.training.modules import VisualTokenizerModule
from mm_mhmoe.training.optim import OptimConfig
from mm_mhmoe.training.trainer import RunConfig, fit


def vqkd(
    out: Path,
    visual_tokenizer: VisualTokenizerConfig,
    optim: OptimConfig,
    steps: int,
    shards: str = "demo:train",
    batch_size: int = 64,
    min_scale: float = 0.5,
    codebook_start: int = 0,
    data: DataConfig = DataConfig(),  # noqa: B008  (frozen)
    run: RunConfig = RunConfig(),  # noqa: B008  (frozen)
) -> None:
    """Trains the visual tokenizer (VQ-KD) whose codes are the targets of masked pictures.

    Args:
        out: directory of the run; becomes the model directory.
        visual_tokenizer: the model, and the teacher whose features it learns to predict.
        optim: the optimiser.
        steps: training steps.
        shards: pictures to learn from: a folder, glob, list or address of .tar files, or demo:train.
        batch_size: pictures a step and process.
        min_scale: smallest part of a picture's area that a random crop keeps.
        codebook_start: step at which k-means starts the codebook; until then nothing is quantised, so that the vectors
            spread out first.
        data: sources and their weights, order, flips and colours, what may be unusable.
        run: seed, precision, devices, checkpoints, logs.
    """
    arguments, started = dict(locals()), time.monotonic()
    if run.fast_dev_run:
        fast_dev_run(vqkd, arguments, codebook_start=min(codebook_start, 1))
        return
    if not open_run(out, "vqkd", arguments):
        print(f"vqkd: {out} is finished")
        return
    if codebook_start >= steps:
        raise ValueError(
            f"codebook_start={codebook_start} leaves no step of steps={steps} to train the codebook; lower it"
        )
    torch.manual_seed(run.seed)
    teacher = build_teacher(visual_tokenizer.teacher, visual_tokenizer.vision)
    model = VisualTokenizer(replace(visual_tokenizer, teacher_dim=teacher.dim))
    loader = PictureDataModule(
        data_path(shards),
        visual_tokenizer.vision,
        batch_size=batch_size,
        num_steps=steps * run.accumulate,
        seed=run.seed,
        workers=run.workers,
        min_scale=min_scale,
        data=own_shards(data),
        quarantine=out / QUARANTINE_FILE,
    )
    module = VisualTokenizerModule(model, teacher, optim, steps=steps, codebook_start=codebook_start * run.accumulate)
    fit(module, loader, title="visual tokenizer", steps=steps, out=out, run=run, optim=optim)
    advice = code_advice(model.quantizer.used.item())
    if advice and is_first_process():
        print(f"vqkd: {advice}")
    finish_run(model, out, provenance("vqkd", arguments, wall_seconds=time.monotonic() - started))
