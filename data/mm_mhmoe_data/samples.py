"""One sample of each stream, as a function of (seed, epoch, key), and batches of them.

Legend: B batch, N patches, L text length, A answers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mm_mhmoe.batch import Images, ImageTextBatch, Texts
from mm_mhmoe.config import TextConfig
from mm_mhmoe_data.collate import collate_images, collate_texts
from mm_mhmoe_data.masking import block_mask, sample_rng, text_mask
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.tokenizer import MASK, Tokenizer
from mm_mhmoe_data.transforms import EvalTransform, TrainTransform

Picks = Sequence[tuple[int, int]]
"""(epoch, index) of samples."""


class Pictures:
    """Pictures of a stream: transformed, and with patch masks where mask_ratio is not 0.

    Args:
        grid: patches along one side.
        stream: goes into the random state, so that streams differ.
    """

    def __init__(
        self,
        dataset: ShardDataset,
        transform: TrainTransform | EvalTransform,
        *,
        grid: int,
        stream: str,
        seed: int,
        mask_ratio: float = 0.0,
    ) -> None:
        self.dataset = dataset
        self.transform = transform
        self.grid = grid
        self.stream = stream
        self.seed = seed
        self.mask_ratio = mask_ratio

    def __call__(self, picks: Picks) -> Images:
        pictures, masks = [], []
        for epoch, index in picks:
            rng = sample_rng(self.seed, epoch, self.dataset.keys[index], f"{self.stream}/picture")
            picture = self.dataset.picture(index)
            if isinstance(self.transform, TrainTransform):
                pictures.append(self.transform(picture, rng))
            else:
                pictures.append(self.transform(picture))
            if self.mask_ratio:
                masks.append(block_mask(self.grid, self.mask_ratio, rng))
        return collate_images(pictures, masks if self.mask_ratio else None)


class Captions:
    """Captions of a stream as token ids, with token masks where mask_ratio is not 0."""

    def __init__(
        self,
        dataset: ShardDataset,
        tokenizer: Tokenizer,
        text: TextConfig,
        *,
        stream: str,
        seed: int,
        mask_ratio: float = 0.0,
    ) -> None:
        self.dataset = dataset
        self.tokenizer = tokenizer
        self.text = text
        self.stream = stream
        self.seed = seed
        self.mask_ratio = mask_ratio

    def __call__(self, picks: Picks) -> Texts:
        ids = [self.tokenizer.encode(self.dataset.caption(index), self.text.max_length) for _, index in picks]
        masks = [self._mask(row, *pick) for row, pick in zip(ids, picks, strict=True)] if self.mask_ratio else None
        return collate_texts(ids, self.text.pad_id, self.text.max_length, masks)

    def _mask(self, ids: Sequence[int], epoch: int, index: int) -> Tensor:
        rng = sample_rng(self.seed, epoch, self.dataset.keys[index], f"{self.stream}/text")
        return text_mask(np.asarray(ids) > MASK, self.mask_ratio, rng)


class Stream:
    """Batches of one stream: pictures, captions, or both.

    Args:
        pictures: None for a stream of texts.
        captions: None for a stream of pictures.
    """

    def __init__(self, dataset: ShardDataset, pictures: Pictures | None, captions: Captions | None) -> None:
        self.dataset = dataset
        self.pictures = pictures
        self.captions = captions

    def __call__(self, picks: Picks) -> ImageTextBatch:
        return ImageTextBatch(
            images=self.pictures(picks) if self.pictures else None,
            texts=self.captions(picks) if self.captions else None,
            keys=keys_of(self.dataset, picks),
        )


def keys_of(dataset: ShardDataset, picks: Picks) -> tuple[str, ...]:
    return tuple(dataset.keys[index] for _, index in picks)


def in_order(count: int, batch_size: int) -> list[list[tuple[int, int]]]:
    """All samples once, in their order, as picks of epoch 0."""
    return [[(0, i) for i in part.tolist()] for part in torch.arange(count).split(batch_size)]
