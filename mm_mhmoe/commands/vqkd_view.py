from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.samples import Pictures, Stream
from mm_mhmoe_data.sampling import Pick
from mm_mhmoe_data.transforms import EvalTransform
from rich.console import Console
from torch import Tensor

from mm_mhmoe.analysis.code_usage import CodeUsage
from mm_mhmoe.analysis.figures.style import render
from mm_mhmoe.analysis.figures.visual_codes import CURVES, PictureCodes, visual_codes
from mm_mhmoe.commands.run_logs import read_metrics
from mm_mhmoe.commands.sources import data_path
from mm_mhmoe.models.checkpoints import load, resolve
from mm_mhmoe.models.teachers import build_teacher
from mm_mhmoe.models.visual_tokenizer import VisualTokenizer
from mm_mhmoe.nn import patchify, unpatchify
from mm_mhmoe.training.checkpoint_io import write_atomically
from mm_mhmoe.training.health import code_advice

FIGURE, NUMBERS = "codes.png", "codes.json"
ENOUGH = 10
"""Patches for each code from which on an unused one tells something."""


def vqkd_view(
    model: str, out: Path, shards: str = "demo:val", samples: int = 512, pictures: int = 8, seed: int = 0
) -> None:
    """Shows what a visual tokenizer's codes keep of pictures, and which of them are used: codes.png, codes.json.

    Pictures are those of the shards from their centre, without change. The teacher is made again from its name.

    Args:
        model: the visual tokenizer: local-dir:PATH, a plain path, or hf-hub:OWNER/NAME. A run's directory also has the
            curves of its training.
        out: directory for both files.
        shards: pictures, of which the codes are counted.
        samples: how many, drawn by seed; all if there are fewer.
        pictures: how many of them are drawn.
        seed: of the draw.
    """
    if not 1 <= pictures <= samples:
        raise ValueError(f"pictures={pictures} must be 1 or more, and at most samples={samples}")
    tokenizer = load(model)
    if not isinstance(tokenizer, VisualTokenizer):
        raise ValueError(f"model={model} is no visual tokenizer; make one with mm-mhmoe vqkd")
    usage, drawn = look(tokenizer, data_path(shards), samples=samples, pictures=pictures, seed=seed)
    report = usage.report()
    logged = read_metrics(resolve(model))
    drawing = visual_codes(drawn, usage.counts_K, report, {name: logged.get(name, []) for name in CURVES})
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / FIGURE, render(drawing))
    numbers = {"model": model, "shards": shards, "samples": samples, "seed": seed, "teacher": tokenizer.config.teacher}
    content = {**numbers, **report._asdict(), "counts": usage.counts_K.tolist()}
    write_atomically(out / NUMBERS, f"{json.dumps(content)}\n".encode())
    console = Console()
    console.print(drawing.caption, highlight=False)
    if report.patches >= ENOUGH * report.num_codes and (advice := code_advice(report.used / report.num_codes)):
        console.print(advice, highlight=False)
    console.print(f"{out}: {FIGURE}, {NUMBERS}", highlight=False, style="dim")


@torch.no_grad()
def look(
    tokenizer: VisualTokenizer, shards: str, *, samples: int, pictures: int, seed: int, batch_size: int = 32
) -> tuple[CodeUsage, list[PictureCodes]]:
    """Codes of `samples` pictures, and the first `pictures` of them to draw."""
    vision = tokenizer.config.vision
    dataset = ShardDataset(shards, parts="images")
    chosen = random.Random(seed).sample(range(len(dataset)), min(samples, len(dataset)))
    stream = Stream(
        dataset, Pictures(dataset, EvalTransform(vision.image_size), grid=vision.grid, stream="vqkd", seed=seed), None
    )
    teacher = build_teacher(tokenizer.config.teacher, vision)
    usage = CodeUsage(tokenizer.config.num_codes, 3 * vision.patch_size**2, teacher.dim)
    shown: list[tuple[Tensor, Tensor, Tensor]] = []
    for start in range(0, len(chosen), batch_size):
        batch = stream([Pick(0, sample) for sample in chosen[start : start + batch_size]])
        assert batch.images is not None
        pixels_BCHW = batch.images.pixels_BCHW
        codes_BN = tokenizer.codes(pixels_BCHW)
        predicted_BNP = tokenizer.decode(tokenizer.quantizer.codebook_KC[codes_BN])
        patches_BNV = patchify(pixels_BCHW, vision.patch_size).float() / 255.0
        cosine_BN = usage.add(codes_BN, patches_BNV, teacher(pixels_BCHW), predicted_BNP)
        shown += list(zip(pixels_BCHW, codes_BN, cosine_BN, strict=True))[: pictures - len(shown)]
    return usage, [_picture(tokenizer, usage, *one) for one in shown]


def _picture(
    tokenizer: VisualTokenizer, usage: CodeUsage, pixels_CHW: Tensor, codes_N: Tensor, cosine_N: Tensor
) -> PictureCodes:
    vision = tokenizer.config.vision
    grid = (vision.grid, vision.grid)
    drawn = None
    if tokenizer.config.teacher == "pixels":
        drawn = (tokenizer.reconstruct(codes_N.unsqueeze(0))[0] + 1.0) / 2.0
    return PictureCodes(
        picture_3HW=pixels_CHW.float() / 255.0,
        averages_3HW=unpatchify(usage.mean_patches_KV[codes_N].unsqueeze(0), vision.patch_size)[0],
        decoded_3HW=drawn,
        codes_hw=codes_N.view(grid),
        cosine_hw=cosine_N.view(grid),
    )
