"""Batches for masked pretraining."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from mm_mhmoe.batch import PretrainBatch
from mm_mhmoe.config import TextConfig, VisionConfig
from mm_mhmoe_data.arrived import Arrived
from mm_mhmoe_data.buckets import BucketedOrder
from mm_mhmoe_data.cached_codes import CachedCodes, CodeRecipe
from mm_mhmoe_data.config import DataConfig
from mm_mhmoe_data.datamodules.steps import StepDataModule, train_transform
from mm_mhmoe_data.pipeline import Parts, ShardDataset
from mm_mhmoe_data.ring import Empty, fresh, step_loader
from mm_mhmoe_data.samples import Captions, Picks, Pictures, Stream, in_order
from mm_mhmoe_data.sampling import Order, StepOrder, StepSampler
from mm_mhmoe_data.sources import Streams
from mm_mhmoe_data.tokenizer import Tokenizer
from mm_mhmoe_data.transforms import EvalTransform, TrainTransform

# Pairs first: the other streams can share their samples.
_STREAMS: tuple[Parts, ...] = ("pairs", "images", "texts")
_SEED_OF: dict[Parts, int] = {"images": 0, "texts": 1, "pairs": 2}


def _take(arrived: Arrived, batch_size: int, step: int) -> Picks:
    return arrived.take(batch_size)


class PretrainDataModule(StepDataModule):
    """The three streams of masked pretraining, each in an order of its own over the same shards: PretrainBatch.

    A stream of size 0 is absent. Validation masks are those of epoch 0 and seed 0, the same for every model.

    Args:
        codes: how the codes in the folder `data.codes` must have been made to be used.
    """

    VAL_BATCH = 64

    def __init__(
        self,
        shards: str | Path,
        tokenizer: Tokenizer,
        vision: VisionConfig,
        text: TextConfig,
        *,
        batch_images: int,
        batch_texts: int,
        batch_pairs: int,
        num_steps: int,
        accumulate: int = 1,
        seed: int = 0,
        workers: int = 0,
        image_mask: float = 0.4,
        text_mask: float = 0.15,
        pair_image_mask: float = 0.4,
        pair_text_mask: float = 0.5,
        min_scale: float = 0.5,
        data: DataConfig = DataConfig(),  # noqa: B008  (frozen)
        quarantine: Path | None = None,
        val_shards: str | Path | None = None,
        codes: CodeRecipe | None = None,
    ) -> None:
        super().__init__(num_steps=num_steps, workers=workers, seed=seed, data=data, quarantine=quarantine)
        self.sizes: dict[Parts, int] = {"images": batch_images, "texts": batch_texts, "pairs": batch_pairs}
        if not any(self.sizes.values()):
            raise ValueError("batch_images, batch_texts and batch_pairs are all 0; give at least one stream a size")
        self.ratios: dict[Parts, tuple[float, float]] = {
            "images": (image_mask, 0.0),
            "texts": (0.0, text_mask),
            "pairs": (pair_image_mask, pair_text_mask),
        }
        self.parts = (tokenizer, vision, text)
        self.data = data
        self.accumulate = accumulate
        self.val_dataset = ShardDataset(val_shards) if val_shards is not None else None
        opened, train = Streams(str(shards), data), train_transform(vision.image_size, min_scale, data)
        self.streams: dict[Parts, Stream] = {}
        self.orders: dict[Parts, Order] = {}
        self.arrived: dict[Parts, Arrived] = {}
        self.codes: dict[Parts, CachedCodes] = {}
        for name in _STREAMS:
            if self.sizes[name]:
                # A seed of its own for each stream: a step's pairs are not its pictures and texts again.
                own = seed * len(_STREAMS) + _SEED_OF[name]
                tokens = None if name == "images" else self._tokens
                dataset: ShardDataset | Arrived
                if data.mode == "stream":
                    dataset = self.arrived[name] = opened.streamed(name, seed=own, quarantine=self.quarantine)
                else:
                    dataset, self.orders[name] = opened.open(name, seed=own, tokens=tokens)
                    if data.codes and codes and name != "texts":
                        self.codes[name] = CachedCodes(Path(data.codes), codes, dataset, name)
                self.streams[name] = self._stream(name, dataset, train, seed, self.codes.get(name))

    def _tokens(self, dataset: ShardDataset, index: int) -> int:
        tokenizer, _, text = self.parts
        return len(tokenizer.encode(dataset.caption(index), text.max_length))

    def _stream(
        self,
        name: Parts,
        dataset: ShardDataset | Arrived,
        transform: TrainTransform | EvalTransform,
        seed: int,
        codes: CachedCodes | None = None,
    ) -> Stream:
        tokenizer, vision, text = self.parts
        image_ratio, text_ratio = self.ratios[name]
        pictures = Pictures(
            dataset,
            transform,
            grid=vision.grid,
            stream=name,
            seed=seed,
            mask_ratio=image_ratio,
            mask_kind=self.data.image_mask_kind,
            mask_unit=self.data.mask_unit,
            codes=codes,
        )
        captions = Captions(
            dataset,
            tokenizer,
            text,
            stream=name,
            seed=seed,
            mask_ratio=text_ratio,
            whole_word=self.data.whole_word,
            captions=self.data.captions,
        )
        return Stream(
            dataset,
            None if name == "texts" else pictures,
            None if name == "images" else captions,
            self.quarantine if dataset is not self.val_dataset else None,
        )

    def setup(self, stage: str) -> None:
        self.picks: dict[Parts, Callable[[int], Picks]] = {
            name: self.steps(order, self.sizes[name]) for name, order in self.orders.items()
        }
        for name, codes in self.codes.items():
            needed = 1 + max((pick.epoch for pick in self.picks[name](self.num_steps - 1)), default=0)
            if needed > codes.epochs and not self.place()[0]:
                print(
                    f"data: stream {name} takes {needed} epochs, and {codes.folder} has codes of {codes.epochs}; for "
                    "the others the visual tokenizer runs"
                )
        self.picks |= {name: partial(_take, arrived, self.sizes[name]) for name, arrived in self.arrived.items()}
        if self.data.bucket_texts and "texts" in self.picks:
            rank, world = self.place()
            together = StepOrder(self.orders["texts"], self.sizes["texts"] * world)
            texts = self.streams["texts"].dataset
            assert isinstance(texts, ShardDataset)
            self.picks["texts"] = BucketedOrder(
                together, texts.text_bytes, accumulate=self.accumulate, rank=rank, world_size=world
            )

    def train_dataloader(self) -> DataLoader:
        for arrived in self.arrived.values():
            arrived.begin(*self.place(), self.start)
        return super().train_dataloader()

    def make_batch(self, step: int, empty: Empty = fresh) -> PretrainBatch:
        return PretrainBatch(**{name: self.streams[name](picks(step), empty) for name, picks in self.picks.items()})

    def val_dataloader(self) -> DataLoader | list[Any]:
        if self.val_dataset is None:
            return []
        dataset, transform = self.val_dataset, EvalTransform(self.parts[1].image_size)
        streams = {name: self._stream(name, dataset, transform, 0) for name, size in self.sizes.items() if size}
        picks = in_order(len(dataset), self.VAL_BATCH)

        def batch(index: int, empty: Empty) -> PretrainBatch:
            return PretrainBatch(**{name: stream(picks[index], empty) for name, stream in streams.items()})

        return step_loader(batch, StepSampler(0, len(picks)))
