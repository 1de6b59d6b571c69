"""Whole loaders on the same shards, ours and others', doing the same work on each sample."""

from __future__ import annotations

import multiprocessing
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import webdataset as wds
from open_clip import SimpleTokenizer
from open_clip.transform import image_transform
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.config import TextConfig
from mm_mhmoe_data.loading_parts import decode_by_pil, picture_bytes
from mm_mhmoe_data.pictures import decode_picture
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.ring import Empty, step_loader
from mm_mhmoe_data.samples import Captions, Pictures, Stream
from mm_mhmoe_data.sampling import ShuffledOrder, StepOrder, StepSampler
from mm_mhmoe_data.tokenizer import Tokenizer
from mm_mhmoe_data.transforms import TrainTransform

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
_SETTLED = 12  # batches after which every worker has filled all of its shared memory


@dataclass(frozen=True, kw_only=True)
class Work:
    """What every whole loader does with a sample: a bicubic random crop to image_size, and token ids.

    min_scale: smallest part of the area that a crop keeps (.9 is open_clip's).
    """

    shards: Sequence[Path]
    tokenizer: Tokenizer
    batch_size: int = 64
    image_size: int = 224
    min_scale: float = 0.9
    max_length: int = 64


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run over some batches. Memory in MB: of all processes together, pages that they share counted in each.

    At the end, workers that have finished no longer count.
    """

    samples_per_second: float
    memory_start: float
    memory_end: float


def run(batches: Iterable[Any], count: int, batch_size: int) -> Run:
    """Takes `count` batches; the clock runs from the arrival of the first one, when all processes are at work."""
    iterator = iter(batches)
    next(iterator)
    memory_start, taken = 0.0, 0
    start = time.perf_counter()
    for taken, _ in enumerate(islice(iterator, count - 1), start=1):
        if taken == min(_SETTLED, count - 1):
            memory_start = memory_mb()
    seconds = time.perf_counter() - start
    return Run(samples_per_second=taken * batch_size / seconds, memory_start=memory_start, memory_end=memory_mb())


def memory_mb() -> float:
    """Resident memory of this process and its children; nan where it cannot be known."""
    if not Path("/proc/self/statm").exists():
        return float("nan")
    pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children() if child.pid)]
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def ours(work: Work, workers: int) -> DataLoader:
    """This package's loader: shuffled, resumable at any step; pixels stay uint8, the model normalises them.

    The data set is opened anew, so that no picture of a small one is at hand decoded from an earlier call.
    """
    dataset = ShardDataset(work.shards)
    transform = TrainTransform(work.image_size, min_scale=work.min_scale, interpolation="bicubic")
    text = TextConfig(vocab_size=len(work.tokenizer), max_length=work.max_length)
    stream = Stream(
        dataset,
        Pictures(dataset, transform, grid=1, stream="bench", seed=0),
        Captions(dataset, work.tokenizer, text, stream="bench", seed=0),
    )
    order = StepOrder(ShuffledOrder(dataset.counts, seed=0), work.batch_size)

    def make_batch(step: int, empty: Empty) -> ImageTextBatch:
        return stream(order(step), empty)

    return step_loader(make_batch, StepSampler(0, len(dataset) // work.batch_size), workers=workers)


def ours_as_floats(work: Work, workers: int) -> Iterator[Tensor]:
    """As `ours`, but the training process makes normalised floats of the pixels, as open_clip's workers do."""
    # Colours of a pixel lie next to each other: whole rows of them at once are six times as fast as three by three.
    mean_R, std_R = (255 * torch.tensor(values).repeat(work.image_size) for values in (MEAN, STD))
    for batch in ours(work, workers):
        pixels_BHR = batch.images.pixels_BCHW.permute(0, 2, 3, 1).flatten(2)
        yield pixels_BHR.float().sub_(mean_R).div_(std_R).unflatten(2, (-1, 3)).permute(0, 3, 1, 2)


def decode_only(work: Work, workers: int, decode: Callable[[bytes], Any] = decode_picture) -> DataLoader:
    """The limit: processes that decode pictures which are in memory already, and hand out nothing."""
    contents = picture_bytes(work.shards)
    size = work.batch_size

    def make_batch(step: int, empty: Empty) -> int:
        for content in contents[step * size : (step + 1) * size]:
            decode(content)
        return step

    return step_loader(make_batch, StepSampler(0, len(contents) // size), workers=workers)


def decode_only_by_pil(work: Work, workers: int) -> DataLoader:
    """The limit of loaders that decode with PIL."""
    return decode_only(work, workers, decode_by_pil)


def _transform(work: Work) -> Callable[[Image.Image], Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return image_transform(work.image_size, True, MEAN, STD, aug_cfg={"scale": (work.min_scale, 1.0)})


def _padded_ids(work: Work) -> Callable[[str], Tensor]:
    def tokenize(text: str) -> Tensor:
        ids_L = torch.full((work.max_length,), 1)
        ids = work.tokenizer.encode(text, work.max_length)
        ids_L[: len(ids)] = torch.tensor(ids)
        return ids_L

    return tokenize


def webdataset_pipeline(work: Work, workers: int) -> Iterable[Any]:
    """The pipeline of webdataset's documentation: shuffle shards and a buffer, decode with PIL, batch in the worker."""
    dataset = (
        wds.WebDataset([str(shard) for shard in work.shards], shardshuffle=100, seed=0)
        .shuffle(1000)
        .decode("pil")
        .to_tuple("jpg;png;jpeg;webp", "txt")
        .map_tuple(_transform(work), _padded_ids(work))
        .batched(work.batch_size, partial=False)
    )
    return wds.WebLoader(dataset, batch_size=None, num_workers=workers)


def open_clip_pipeline(work: Work, workers: int, tokenize: Callable[[str], Tensor] | None = None) -> Iterable[Any]:
    """What open_clip's training builds for shards, put together again: its wheel does not hold that code.

    Stages and buffer sizes are those of `get_wds_dataset` of open_clip_train/data.py; webdataset's own shuffle of
    shards and reader stand in for the two that open_clip has rewritten.

    Args:
        tokenize: None: the tokenizer that every loader has here.
    """
    dataset = wds.DataPipeline(
        wds.SimpleShardList([str(shard) for shard in work.shards]),
        wds.detshuffle(bufsize=2000, initial=500, seed=0),
        wds.split_by_node,
        wds.split_by_worker,
        wds.tarfile_to_samples(handler=wds.warn_and_continue),
        wds.shuffle(bufsize=5000, initial=1000),
        wds.select(lambda sample: "txt" in sample and any(key in sample for key in ("jpg", "png", "jpeg", "webp"))),
        wds.decode("pilrgb", handler=wds.warn_and_continue),
        wds.rename(image="jpg;png;jpeg;webp", text="txt"),
        wds.map_dict(image=_transform(work), text=tokenize or _padded_ids(work)),
        wds.to_tuple("image", "text"),
        wds.batched(work.batch_size, partial=False),
    )
    return wds.WebLoader(dataset, batch_size=None, shuffle=False, num_workers=workers)


def open_clip_with_its_tokenizer(work: Work, workers: int) -> Iterable[Any]:
    tokenizer = SimpleTokenizer()
    return open_clip_pipeline(work, workers, lambda text: tokenizer(text)[0])
