"""Truth: all loaders hand out the samples of the shards, and the same pictures but for the place of the crop.

The samples are made up.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mm_mhmoe_data.loader_bench import (
    MEAN,
    STD,
    Work,
    decode_only,
    open_clip_pipeline,
    open_clip_with_its_tokenizer,
    ours,
    ours_as_floats,
    run,
    webdataset_pipeline,
)
from mm_mhmoe_data.loading_parts import decoders, picture_bytes, readers, resizers
from mm_mhmoe_data.shards import expand_shards
from mm_mhmoe_data.tokenizer import Tokenizer


@pytest.fixture
def work(shards: Path, tokenizer: Tokenizer) -> Work:
    # A crop of the whole picture in its own shape: nothing is random but the order.
    paths = [shard.local() for shard in expand_shards(shards)]
    return Work(
        shards=paths,
        tokenizer=tokenizer,
        batch_size=4,
        image_size=32,
        max_length=16,
    )


@pytest.mark.parametrize("loader", [webdataset_pipeline, open_clip_pipeline, open_clip_with_its_tokenizer])
def test_others_hand_out_the_same_kind_of_batch(loader, work: Work) -> None:
    floats = next(iter(ours_as_floats(work, 0)))
    pixels, ids = next(iter(loader(work, 0)))
    assert pixels.shape == floats.shape == (4, 3, 32, 32) and pixels.dtype == floats.dtype == torch.float32
    assert -1 <= pixels.min() < -0.8 and 0.8 < pixels.max() <= 1  # noise of all values, normalised
    assert -1 <= floats.min() < -0.8 and 0.8 < floats.max() <= 1
    assert ids.shape == ((4, 77) if loader is open_clip_with_its_tokenizer else (4, 16))


def test_ours_and_open_clips_read_the_same_captions(work: Work) -> None:
    def rows(batches) -> set[tuple[int, ...]]:
        return {tuple(i for i in row.tolist() if i != 1) for ids_BL in batches for row in ids_BL}

    everything = rows(batch.texts.ids_BL for batch in ours(work, 0))
    assert len(everything & rows(ids for _, ids in open_clip_pipeline(work, 0))) >= len(everything) - 8  # last batches


def test_floats_are_the_normalised_bytes(work: Work) -> None:
    pixels = next(iter(ours(work, 0))).images.pixels_BCHW
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    torch.testing.assert_close(next(iter(ours_as_floats(work, 0))), (pixels / 255 - mean) / std)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_takes_as_many_batches_as_asked(workers: int, work: Work) -> None:
    taken = []

    def counted():
        for batch in decode_only(work, workers):
            taken.append(batch)
            yield batch

    one = run(counted(), 4, 4)
    assert taken == [0, 1, 2, 3]
    assert one.samples_per_second > 0 and one.memory_end > 10


def test_every_way_to_do_a_part_runs_on_every_picture(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = picture_bytes(work.shards)
    assert len(contents) == 23
    for way in (readers(work.shards) | decoders(contents) | resizers(contents, 16)).values():
        way()
    assert set(decoders(contents)) == {"decode_picture (ours)", "PIL"}  # half of them are PNGs
    assert "torchvision" in decoders([c for c in contents if c.startswith(b"\xff\xd8")])
