"""The work of `data tokenize-images`: codes of the crops of one shard, in a process of its own.

Shapes: E epochs, n samples of the shard, B batch, N patches.
"""

from __future__ import annotations

import multiprocessing
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mm_mhmoe_data.cached_codes import CodeRecipe, code_file, code_type, read_codes, write_codes
from mm_mhmoe_data.config import DataConfig
from mm_mhmoe_data.datamodules.steps import train_transform
from mm_mhmoe_data.parallel import raise_if_stopped
from mm_mhmoe_data.pipeline import Parts, ShardDataset
from mm_mhmoe_data.samples import Pictures, drawn_caption
from mm_mhmoe_data.sampling import Pick
from mm_mhmoe_data.shards import Shard
from mm_mhmoe_data.shards.indexed import SampleError
from torch import Tensor

from mm_mhmoe.commands.picture_target import load_tokenizer
from mm_mhmoe.models.visual_tokenizer import VisualTokenizer
from mm_mhmoe.process import fast_fp32_products, keep_large_buffers
from mm_mhmoe.training.throughput import PRODUCT_TYPES

_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class CodeJob:
    """One shard of one stream.

    sha256: the shard's. folder: of the stream. threads: that torch may use; 0: as many as it likes.
    """

    shard: Shard
    sha256: str
    stream: Parts
    tokenizer: Path
    recipe: CodeRecipe
    data: DataConfig
    epochs: int
    folder: Path
    device: str
    threads: int


class CodesDone(NamedTuple):
    """Crops whose codes were computed now, and those that could not be read."""

    computed: int
    unreadable: int


def run_job(job: CodeJob) -> CodesDone:
    """Adds the epochs that the shard's file lacks. Raises ShardError if the shard cannot be trusted."""
    if multiprocessing.parent_process() is not None:  # as in the command's own process
        keep_large_buffers()
        fast_fp32_products()
    if job.threads:
        torch.set_num_threads(job.threads)
    path = code_file(job.folder, job.sha256)
    known_EnN = read_codes(path) if path.is_file() else None
    first = 0 if known_EnN is None else len(known_EnN)
    if first >= job.epochs:
        return CodesDone(0, 0)
    tokenizer = _tokenizer(job.tokenizer, job.device)
    config, recipe = tokenizer.config, job.recipe
    dataset = ShardDataset([job.shard], job.stream)
    transform = train_transform(recipe.image_size, recipe.min_scale, job.data)
    pictures = Pictures(dataset, transform, grid=config.vision.grid, stream=job.stream, seed=recipe.seed)
    kind = code_type(config.num_codes)
    shape = (job.epochs - first, len(dataset) + dataset.left_out, config.vision.num_patches)
    codes_EnN: np.ndarray[Any, Any] = np.full(shape, np.iinfo(kind).max, kind)
    unreadable = 0
    for epoch in range(first, job.epochs):
        for begin in range(0, len(dataset), _BATCH):
            raise_if_stopped()
            picks = [Pick(epoch, sample) for sample in range(begin, min(begin + _BATCH, len(dataset)))]
            crops = {pick: crop for pick in picks if (crop := _crop(pictures, pick, job)) is not None}
            unreadable += len(picks) - len(crops)
            if crops:
                codes_BN = _codes(tokenizer, torch.stack(list(crops.values())), job).cpu().numpy()
                places = [dataset.place(pick.sample)[1] for pick in crops]
                codes_EnN[epoch - first, places] = codes_BN
    write_codes(path, codes_EnN if known_EnN is None else np.concatenate([known_EnN, codes_EnN]))
    return CodesDone(len(dataset) * (job.epochs - first) - unreadable, unreadable)


def _crop(pictures: Pictures, pick: Pick, job: CodeJob) -> Tensor | None:
    """The picture as pretraining will see it; None where pretraining will take another in its place."""
    try:
        said = ""
        if job.stream == "pairs" and job.data.flip == "caption":
            captions, seed = job.data.captions, job.recipe.seed
            said = drawn_caption(pictures.dataset, pick, stream=job.stream, seed=seed, captions=captions)
        return pictures(pick, said).pixels_CHW
    except SampleError:
        return None


def _codes(tokenizer: VisualTokenizer, pixels_BCHW: Tensor, job: CodeJob) -> Tensor:
    with _autocast(job):
        return tokenizer.codes(pixels_BCHW.to(job.device))


def _autocast(job: CodeJob) -> AbstractContextManager[Any]:
    """As Lightning runs a training step in this precision."""
    dtype = PRODUCT_TYPES[job.recipe.precision]
    return nullcontext() if dtype == torch.float32 else torch.autocast(job.device, dtype=dtype)


@lru_cache(maxsize=1)
def _tokenizer(directory: Path, device: str) -> VisualTokenizer:
    return load_tokenizer(directory).to(device)
