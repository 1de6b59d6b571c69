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
from mm_mhmoe_data.collate import collate_texts
from mm_mhmoe_data.masking import block_mask, sample_rng, text_mask, whole_word_mask
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.ring import Empty, fresh
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

    def __call__(self, picks: Picks, said: Sequence[str] | None = None, empty: Empty = fresh) -> Images:
        """The pixels lie in memory from `empty`, with the colours of a pixel next to each other.

        Args:
            said: the text that goes with each picture, for a transform that flips by captions.
        """
        side = self.transform.image_size
        pixels_BHWC, masks = empty((len(picks), side, side, 3), torch.uint8), []
        for row, (epoch, index) in enumerate(picks):
            rng = sample_rng(self.seed, epoch, self.dataset.keys[index], f"{self.stream}/picture")
            picture_CHW = self.dataset.picture(index)
            if isinstance(self.transform, TrainTransform):
                picture_CHW = self.transform(picture_CHW, rng, said[row] if said else "")
            else:
                picture_CHW = self.transform(picture_CHW)
            pixels_BHWC[row] = picture_CHW.permute(1, 2, 0)
            if self.mask_ratio:
                masks.append(block_mask(self.grid, self.mask_ratio, rng))
        return Images(
            pixels_BCHW=pixels_BHWC.permute(0, 3, 1, 2), masked_BN=torch.stack(masks) if self.mask_ratio else None
        )


class Captions:
    """Captions of a stream as token ids, with token masks where mask_ratio is not 0.

    Args:
        whole_word: hide all pieces of a word or none. A word begins at a piece with SentencePiece's mark of a space, so
            leave it off for languages without spaces.
    """

    def __init__(
        self,
        dataset: ShardDataset,
        tokenizer: Tokenizer,
        text: TextConfig,
        *,
        stream: str,
        seed: int,
        mask_ratio: float = 0.0,
        whole_word: bool = False,
    ) -> None:
        self.dataset = dataset
        self.tokenizer = tokenizer
        self.text = text
        self.stream = stream
        self.seed = seed
        self.mask_ratio = mask_ratio
        self.begins_V = begins_word(tokenizer) if whole_word else None

    def read(self, picks: Picks) -> list[str]:
        return [self.dataset.caption(index) for _, index in picks]

    def __call__(self, picks: Picks, captions: Sequence[str]) -> Texts:
        ids = [self.tokenizer.encode(caption, self.text.max_length) for caption in captions]
        masks = [self._mask(row, *pick) for row, pick in zip(ids, picks, strict=True)] if self.mask_ratio else None
        return collate_texts(ids, self.text.pad_id, self.text.max_length, masks)

    def _mask(self, ids: Sequence[int], epoch: int, index: int) -> Tensor:
        rng = sample_rng(self.seed, epoch, self.dataset.keys[index], f"{self.stream}/text")
        ids_L = np.asarray(ids)
        if self.begins_V is None:
            return text_mask(ids_L > MASK, self.mask_ratio, rng)
        return whole_word_mask(ids_L > MASK, self.begins_V[ids_L], self.mask_ratio, rng)


def begins_word(tokenizer: Tokenizer) -> np.ndarray:
    """Whether a word begins at each piece: (V,) bool."""
    return np.array([tokenizer.piece(index).startswith("▁") for index in range(len(tokenizer))])


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

    def __call__(self, picks: Picks, empty: Empty = fresh) -> ImageTextBatch:
        said = self.captions.read(picks) if self.captions else None
        return ImageTextBatch(
            images=self.pictures(picks, said, empty) if self.pictures else None,
            texts=self.captions(picks, said) if self.captions and said else None,
            keys=keys_of(self.dataset, picks),
        )


def keys_of(dataset: ShardDataset, picks: Picks) -> tuple[str, ...]:
    return tuple(dataset.keys[index] for _, index in picks)


def in_order(count: int, batch_size: int) -> list[list[tuple[int, int]]]:
    """All samples once, in their order, as picks of epoch 0."""
    return [[(0, i) for i in part.tolist()] for part in torch.arange(count).split(batch_size)]
