"""One sample of each stream, as a function of (seed, epoch, key), and batches of them.

Legend: B batch, N patches, L text length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from mm_mhmoe.batch import Images, ImageTextBatch, Texts
from mm_mhmoe.config import TextConfig
from mm_mhmoe_data.arrived import Arrived
from mm_mhmoe_data.collate import collate_texts
from mm_mhmoe_data.masking import ImageMaskKind, image_mask, sample_draws, sample_rng, text_mask, whole_word_mask
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.quarantine import Quarantine
from mm_mhmoe_data.ring import Empty, fresh
from mm_mhmoe_data.sampling import Pick
from mm_mhmoe_data.shards.indexed import SampleError
from mm_mhmoe_data.tokenizer import EOS, MASK, Tokenizer
from mm_mhmoe_data.transforms import TrainTransform, Transform

Picks = Sequence[Pick]

CaptionLines = Literal["auto", "lines", "whole", "languages"]

_T = TypeVar("_T")


class Picture(NamedTuple):
    """pixels_CHW: uint8. masked_N: patches that are hidden; None: no mask was asked for. codes_N: where known."""

    pixels_CHW: Tensor
    masked_N: Tensor | None
    codes_N: Tensor | None = None


class Found(NamedTuple):
    """A picture before it is read.

    read: reads and decodes it, as `ShardDataset.find_picture` says. draws: what is random about its transform. The
    others are as in `Picture`.
    """

    read: Callable[[int | None], Tensor]
    draws: tuple[float, ...]
    masked_N: Tensor | None
    codes_N: Tensor | None


class Words(NamedTuple):
    """A text, its token ids, and which of them are hidden; None: no mask was asked for."""

    text: str
    ids: list[int]
    masked_L: Tensor | None


_Prepared = tuple[Words | None, Found | None]


class Pictures:
    """Pictures of a stream: transformed, and with patch masks where mask_ratio is not 0.

    Args:
        grid: patches along one side.
        stream: goes into the random state, so that streams differ.
        mask_kind: how patches are chosen.
        mask_unit: patches along one side of a cube.
        codes: of the patches of a pick's picture, where they were computed before.
    """

    def __init__(
        self,
        dataset: ShardDataset | Arrived,
        transform: TrainTransform | Transform,
        *,
        grid: int,
        stream: str,
        seed: int,
        mask_ratio: float = 0.0,
        mask_kind: ImageMaskKind = "block",
        mask_unit: int = 1,
        codes: Callable[[Pick], Tensor | None] | None = None,
    ) -> None:
        self.dataset = dataset
        self.transform = transform
        self.codes = codes
        self.grid = grid
        self.stream = stream
        self.seed = seed
        self.mask_ratio = mask_ratio
        self.mask_kind = mask_kind
        self.mask_unit = mask_unit

    def __call__(self, pick: Pick, said: str = "", out_CHW: Tensor | None = None) -> Picture:
        """Its pixels lie in `out_CHW` where that is given.

        Args:
            said: the text that goes with it, for a transform that flips by captions.
        """
        return self.load(self.find(pick), said, out_CHW)

    def find(self, pick: Pick) -> Found:
        """What can be known of a picture before it is read."""
        state = self.seed, pick.epoch, self.dataset.keys[pick.sample]
        masked_N = None
        if self.mask_ratio:
            rng = sample_rng(*state, f"{self.stream}/picture")
            masked_N = image_mask(self.grid, self.mask_ratio, rng, kind=self.mask_kind, unit=self.mask_unit)
        return Found(
            self.dataset.find_picture(pick.sample),
            sample_draws(*state, f"{self.stream}/crop"),
            masked_N,
            self.codes(pick) if self.codes else None,
        )

    def load(self, found: Found, said: str = "", out_CHW: Tensor | None = None) -> Picture:
        """The picture that was found; the rest as when called."""
        pixels_CHW = found.read(self.transform.least_side)
        if isinstance(self.transform, TrainTransform):
            pixels_CHW = self.transform(pixels_CHW, found.draws, said, out_CHW)
        else:
            pixels_CHW = self.transform(pixels_CHW)
            pixels_CHW = pixels_CHW if out_CHW is None else out_CHW.copy_(pixels_CHW)
        return Picture(pixels_CHW, found.masked_N, found.codes_N)

    def square(self, count: int, empty: Empty) -> Tensor:
        """Room for `count` of its pictures (`squares`)."""
        return squares(count, self.transform.image_size, empty)


def squares(count: int, side: int, empty: Empty) -> Tensor:
    """uint8 (count, 3, side, side) in memory from `empty`. The colours of a pixel lie next to each other."""
    return empty((count, side, side, 3), torch.uint8).permute(0, 3, 1, 2)


class Captions:
    """Captions of a stream as token ids, with token masks where mask_ratio is not 0.

    Args:
        mask_end: the end token may be hidden too, for models that have to learn where a text ends.
        whole_word: hide all pieces of a word or none. A word begins at a piece with SentencePiece's mark of a space, so
            leave it off for languages without spaces.
        captions: whether the lines of a text are captions of which one is drawn: lines; whole; or auto, where the data
            set says so; languages: one of those in .json is drawn.
    """

    def __init__(
        self,
        dataset: ShardDataset | Arrived,
        tokenizer: Tokenizer,
        text: TextConfig,
        *,
        stream: str,
        seed: int,
        mask_ratio: float = 0.0,
        mask_end: bool = False,
        whole_word: bool = False,
        captions: CaptionLines = "auto",
    ) -> None:
        self.captions = captions
        self.dataset = dataset
        self.tokenizer = tokenizer
        self.text = text
        self.stream = stream
        self.seed = seed
        self.mask_ratio = mask_ratio
        self.mask_end = mask_end
        self.begins_V = begins_word(tokenizer) if whole_word else None

    def __call__(self, pick: Pick) -> Words:
        caption = drawn_caption(self.dataset, pick, stream=self.stream, seed=self.seed, captions=self.captions)
        ids = self.tokenizer.encode(caption, self.text.max_length)
        return Words(caption, ids, self._mask(ids, pick) if self.mask_ratio else None)

    def _mask(self, ids: Sequence[int], pick: Pick) -> Tensor:
        rng = sample_rng(self.seed, pick.epoch, self.dataset.keys[pick.sample], f"{self.stream}/text")
        ids_L = np.asarray(ids)
        maskable_L = (ids_L > MASK) | (ids_L == EOS) if self.mask_end else ids_L > MASK
        if self.begins_V is None:
            return text_mask(maskable_L, self.mask_ratio, rng)
        return whole_word_mask(maskable_L, self.begins_V[ids_L], self.mask_ratio, rng)


def drawn_caption(
    dataset: ShardDataset | Arrived, pick: Pick, *, stream: str, seed: int, captions: CaptionLines
) -> str:
    """The text of a sample, or the line of it that is drawn; `captions` as in `Captions`."""
    lines = captions_of(dataset, pick.sample, captions)
    if len(lines) == 1:
        return lines[0]
    rng = sample_rng(seed, pick.epoch, dataset.keys[pick.sample], f"{stream}/line")
    return lines[int(rng.integers(len(lines)))]


def captions_of(dataset: ShardDataset | Arrived, sample: int, captions: CaptionLines) -> list[str]:
    """The captions of a sample, one or several; `captions` as in `Captions`."""
    if captions == "languages":
        return _of_all_languages(dataset, sample)
    text = dataset.caption(sample)
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if len(lines) < 2 or captions == "whole":
        return [text]
    return lines if captions == "lines" or dataset.has_several_captions(sample) else [text]


def _of_all_languages(dataset: ShardDataset | Arrived, sample: int) -> list[str]:
    said = dataset.metadata(sample).get("captions") if isinstance(dataset, ShardDataset) else None
    if not isinstance(said, dict) or not said:
        raise ValueError(
            f"data.captions=languages: sample {dataset.keys[sample]} has no captions by language in its .json, as in "
            '{"captions": {"en": "...", "fr": "..."}}; choose shards of data build tuxpaint, or data.captions=auto'
        )
    return [str(text) for text in said.values()]


def begins_word(tokenizer: Tokenizer) -> np.ndarray:
    """Whether a word begins at each piece: (V,) bool."""
    return np.array([tokenizer.piece(index).startswith("▁") for index in range(len(tokenizer))])


class Stream:
    """Batches of one stream: pictures, captions, or both.

    Args:
        pictures: None for a stream of texts.
        captions: None for a stream of pictures.
        quarantine: where samples go that cannot be used, and others come from; None: they are errors.
    """

    def __init__(
        self,
        dataset: ShardDataset | Arrived,
        pictures: Pictures | None,
        captions: Captions | None,
        quarantine: Quarantine | None = None,
    ) -> None:
        self.dataset = dataset
        self.pictures = pictures
        self.captions = captions
        self.quarantine = quarantine

    def __call__(self, picks: Picks, empty: Empty = fresh) -> ImageTextBatch:
        """The pixels lie in memory from `empty`."""
        # Light work for all samples first: between decoding and resizing, which fill the processor's caches, it takes
        # several times as long.
        ahead: dict[Pick, _Prepared] = {}
        for pick in picks:
            with suppress(SampleError):  # it comes again when the sample is read
                ahead[pick] = self._prepare(pick)
        pixels_BCHW = self.pictures.square(len(picks), empty) if self.pictures else None

        def read(row: int, pick: Pick) -> tuple[Words | None, Picture | None]:
            words, found = ahead.pop(pick) if pick in ahead else self._prepare(pick)
            if self.pictures is None or found is None or pixels_BCHW is None:
                return words, None
            return words, self.pictures.load(found, words.text if words else "", pixels_BCHW[row])

        rows = load_all(self.quarantine, self.dataset, len(self.dataset), picks, read)
        words = [words for _, (words, _) in rows if words]
        pictures = [picture for _, (_, picture) in rows if picture]
        return ImageTextBatch(
            images=collate_pictures(pictures, pixels_BCHW) if pixels_BCHW is not None else None,
            texts=self._texts(words) if words else None,
            keys=keys_of(self.dataset, [pick for pick, _ in rows]),
        )

    def _prepare(self, pick: Pick) -> _Prepared:
        return self.captions(pick) if self.captions else None, self.pictures.find(pick) if self.pictures else None

    def _texts(self, words: Sequence[Words]) -> Texts:
        assert self.captions is not None
        text, masks = self.captions.text, [row.masked_L for row in words if row.masked_L is not None]
        return collate_texts([row.ids for row in words], text.pad_id, text.max_length, masks or None)


def load_all(
    quarantine: Quarantine | None,
    dataset: ShardDataset | Arrived,
    count: int,
    picks: Picks,
    read: Callable[[int, Pick], _T],
) -> list[tuple[Pick, _T]]:
    """What `read` makes of every row and its pick, or of the pick's replacement among `count`, and which that was."""
    if quarantine is None:
        return [(pick, read(row, pick)) for row, pick in enumerate(picks)]
    sha256 = dataset.sha256_of if isinstance(dataset, ShardDataset) else None
    return [quarantine.load(count, pick, partial(read, row), sha256) for row, pick in enumerate(picks)]


def collate_pictures(pictures: Sequence[Picture], pixels_BCHW: Tensor) -> Images:
    """Pictures whose pixels lie in the rows of pixels_BCHW."""
    masks = [picture.masked_N for picture in pictures if picture.masked_N is not None]
    codes = [picture.codes_N for picture in pictures if picture.codes_N is not None]
    return Images(
        pixels_BCHW=pixels_BCHW,
        masked_BN=torch.stack(masks) if masks else None,
        codes_BN=torch.stack(codes) if len(codes) == len(pictures) else None,
    )


def keys_of(dataset: ShardDataset | Arrived, picks: Picks) -> tuple[str, ...]:
    return tuple(dataset.keys[pick.sample] for pick in picks)


def in_order(count: int, batch_size: int) -> list[list[Pick]]:
    """All samples once, in their order, as picks of epoch 0."""
    return [[Pick(0, i) for i in part.tolist()] for part in torch.arange(count).split(batch_size)]
