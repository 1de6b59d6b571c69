"""Lightning data modules on shards. A run is one long epoch: the loader's item number s is the batch of step s."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset

from mm_mhmoe.batch import ImageTextBatch, PretrainBatch, VQABatch
from mm_mhmoe.config import TextConfig, VisionConfig
from mm_mhmoe_data.collate import collate_texts
from mm_mhmoe_data.config import DataConfig
from mm_mhmoe_data.pipeline import Parts, ShardDataset
from mm_mhmoe_data.samples import Captions, Picks, Pictures, Stream, in_order, keys_of
from mm_mhmoe_data.sampling import Order, ShuffledOrder, StepOrder, StepSampler
from mm_mhmoe_data.sources import Streams
from mm_mhmoe_data.tokenizer import Tokenizer
from mm_mhmoe_data.transforms import EvalTransform, TrainTransform
from mm_mhmoe_data.vqa_data import VQAExample, soft_targets

# Pairs first: the other streams can share their samples.
_STREAMS: tuple[Parts, ...] = ("pairs", "images", "texts")
_SEED_OF: dict[Parts, int] = {"images": 0, "texts": 1, "pairs": 2}


class _Batches(Dataset):
    """Item i is the batch that `make(i)` gives."""

    def __init__(self, make: Callable[[int], Any], count: int) -> None:
        self.make = make
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.make(index)


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)


class StepDataModule(L.LightningDataModule):
    """Serves `make_batch(step)` for every step of a run, from the step on at which a checkpoint was written.

    Args:
        num_steps: batches of the whole run.
        workers: processes that make batches ahead; 0 makes them in the training process.
    """

    def __init__(self, *, num_steps: int, workers: int = 0) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.workers = workers
        self.start = 0

    def make_batch(self, step: int) -> Any:
        raise NotImplementedError

    def steps(self, order: Order, batch_size: int) -> StepOrder:
        """What each step takes of a stream in this process. batch_size is that of one process."""
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return StepOrder(order, batch_size * world, rank=rank, world_size=world)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(
            _Batches(self.make_batch, self.num_steps),
            batch_size=None,
            sampler=StepSampler(self.start, self.num_steps),
            num_workers=self.workers,
            worker_init_fn=_one_thread if self.workers else None,
            pin_memory=torch.cuda.is_available(),
        )

    def state_dict(self) -> dict[str, int]:
        trainer = self.trainer
        assert trainer is not None
        progress = trainer.fit_loop.epoch_loop.batch_progress.current
        return {"batches": progress.processed}  # type: ignore[attr-defined]

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.start = state["batches"]


class PictureDataModule(StepDataModule):
    """Pictures alone, for the visual tokenizer: ImageTextBatch."""

    def __init__(
        self,
        shards: str | Path,
        vision: VisionConfig,
        *,
        batch_size: int,
        num_steps: int,
        seed: int = 0,
        workers: int = 0,
        min_scale: float = 0.5,
        data: DataConfig = DataConfig(),  # noqa: B008  (frozen)
    ) -> None:
        super().__init__(num_steps=num_steps, workers=workers)
        self.dataset, self.order = Streams(str(shards), data).open("images", seed=seed)
        transform = TrainTransform(vision.image_size, min_scale=min_scale)
        pictures = Pictures(self.dataset, transform, grid=vision.grid, stream="vqkd", seed=seed)
        self.stream = Stream(self.dataset, pictures, None)
        self.batch_size = batch_size

    def setup(self, stage: str) -> None:
        self.picks = self.steps(self.order, self.batch_size)

    def make_batch(self, step: int) -> ImageTextBatch:
        return self.stream(self.picks(step))


class PretrainDataModule(StepDataModule):
    """The three streams of masked pretraining, each in an order of its own over the same shards: PretrainBatch.

    A stream of size 0 is absent. Validation masks are those of epoch 0 and seed 0, the same for every model.
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
        seed: int = 0,
        workers: int = 0,
        image_mask: float = 0.4,
        text_mask: float = 0.15,
        pair_image_mask: float = 0.4,
        pair_text_mask: float = 0.5,
        min_scale: float = 0.5,
        data: DataConfig = DataConfig(),  # noqa: B008  (frozen)
        val_shards: str | Path | None = None,
    ) -> None:
        super().__init__(num_steps=num_steps, workers=workers)
        self.sizes: dict[Parts, int] = {"images": batch_images, "texts": batch_texts, "pairs": batch_pairs}
        if not any(self.sizes.values()):
            raise ValueError("batch_images, batch_texts and batch_pairs are all 0; give at least one stream a size")
        self.ratios: dict[Parts, tuple[float, float]] = {
            "images": (image_mask, 0.0),
            "texts": (0.0, text_mask),
            "pairs": (pair_image_mask, pair_text_mask),
        }
        self.parts = (tokenizer, vision, text)
        opened, train = Streams(str(shards), data), TrainTransform(vision.image_size, min_scale=min_scale)
        self.streams: dict[Parts, Stream] = {}
        self.orders: dict[Parts, Order] = {}
        for name in _STREAMS:
            if self.sizes[name]:
                # A seed of its own for each stream: a step's pairs are not its pictures and texts again.
                own = seed * len(_STREAMS) + _SEED_OF[name]
                tokens = None if name == "images" else self._tokens
                dataset, self.orders[name] = opened.open(name, seed=own, tokens=tokens)
                self.streams[name] = self._stream(name, dataset, train, seed)
        self.val_dataset = ShardDataset(val_shards) if val_shards is not None else None

    def _tokens(self, dataset: ShardDataset, index: int) -> int:
        tokenizer, _, text = self.parts
        return len(tokenizer.encode(dataset.caption(index), text.max_length))

    def _stream(
        self, name: Parts, dataset: ShardDataset, transform: TrainTransform | EvalTransform, seed: int
    ) -> Stream:
        tokenizer, vision, text = self.parts
        image_ratio, text_ratio = self.ratios[name]
        pictures = Pictures(dataset, transform, grid=vision.grid, stream=name, seed=seed, mask_ratio=image_ratio)
        captions = Captions(dataset, tokenizer, text, stream=name, seed=seed, mask_ratio=text_ratio)
        return Stream(dataset, None if name == "texts" else pictures, None if name == "images" else captions)

    def setup(self, stage: str) -> None:
        self.picks = {name: self.steps(order, self.sizes[name]) for name, order in self.orders.items()}

    def make_batch(self, step: int) -> PretrainBatch:
        return PretrainBatch(**{name: self.streams[name](picks(step)) for name, picks in self.picks.items()})

    def val_dataloader(self) -> DataLoader | list[Any]:
        if self.val_dataset is None:
            return []
        dataset, transform = self.val_dataset, EvalTransform(self.parts[1].image_size)
        streams = {name: self._stream(name, dataset, transform, 0) for name, size in self.sizes.items() if size}
        picks = in_order(len(dataset), self.VAL_BATCH)

        def batch(index: int) -> PretrainBatch:
            return PretrainBatch(**{name: stream(picks[index]) for name, stream in streams.items()})

        return DataLoader(_Batches(batch, len(picks)), batch_size=None)


class RetrievalDataModule(StepDataModule):
    """Unmasked pairs: ImageTextBatch."""

    def __init__(
        self,
        shards: str | Path,
        tokenizer: Tokenizer,
        vision: VisionConfig,
        text: TextConfig,
        *,
        batch_size: int,
        num_steps: int,
        seed: int = 0,
        workers: int = 0,
        min_scale: float = 0.5,
        data: DataConfig = DataConfig(),  # noqa: B008  (frozen)
    ) -> None:
        super().__init__(num_steps=num_steps, workers=workers)
        self.dataset, self.order = Streams(str(shards), data).open("pairs", seed=seed)
        transform = TrainTransform(vision.image_size, min_scale=min_scale)
        pictures = Pictures(self.dataset, transform, grid=vision.grid, stream="retrieval", seed=seed)
        captions = Captions(self.dataset, tokenizer, text, stream="retrieval", seed=seed)
        self.stream = Stream(self.dataset, pictures, captions)
        self.batch_size = batch_size

    def setup(self, stage: str) -> None:
        self.picks = self.steps(self.order, self.batch_size)

    def make_batch(self, step: int) -> ImageTextBatch:
        return self.stream(self.picks(step))


class VQADataModule(StepDataModule):
    """Pictures, questions and soft answers: VQABatch."""

    def __init__(
        self,
        shards: str | Path,
        examples: Sequence[VQAExample],
        answers: Sequence[str],
        tokenizer: Tokenizer,
        vision: VisionConfig,
        text: TextConfig,
        *,
        batch_size: int,
        num_steps: int,
        seed: int = 0,
        workers: int = 0,
        min_scale: float = 0.8,
    ) -> None:
        super().__init__(num_steps=num_steps, workers=workers)
        self.dataset = ShardDataset(shards, "images")
        transform = TrainTransform(vision.image_size, min_scale=min_scale)
        pictures = Pictures(self.dataset, transform, grid=vision.grid, stream="vqa", seed=seed)
        self.questions = Questions(self.dataset, examples, answers, pictures, tokenizer, text)
        self.order = ShuffledOrder([len(self.questions)], seed=seed, window=len(self.questions))
        self.batch_size = batch_size

    def setup(self, stage: str) -> None:
        self.picks = self.steps(self.order, self.batch_size)

    def make_batch(self, step: int) -> VQABatch:
        return self.questions(self.picks(step))


class Questions:
    """VQA examples joined with their pictures. Raises ValueError when a picture is not in the shards."""

    def __init__(
        self,
        dataset: ShardDataset,
        examples: Sequence[VQAExample],
        answers: Sequence[str],
        pictures: Pictures,
        tokenizer: Tokenizer,
        text: TextConfig,
    ) -> None:
        index_of = {key: index for index, key in enumerate(dataset.keys)}
        for example in examples:
            if example.image_key not in index_of:
                raise ValueError(
                    f"question {example.question_id} is about picture {example.image_key}, which the shards do not "
                    "hold; give the shards that belong to the questions"
                )
        self.examples = examples
        self.picture_of = [index_of[example.image_key] for example in examples]
        self.answer_index = {answer: i for i, answer in enumerate(answers)}
        self.dataset = dataset
        self.pictures = pictures
        self.tokenizer = tokenizer
        self.text = text

    def __len__(self) -> int:
        return len(self.examples)

    def __call__(self, picks: Picks) -> VQABatch:
        chosen = [self.examples[index] for _, index in picks]
        of_pictures = [(epoch, self.picture_of[index]) for epoch, index in picks]
        ids = [self.tokenizer.encode(example.question, self.text.max_length) for example in chosen]
        pairs = ImageTextBatch(
            images=self.pictures(of_pictures),
            texts=collate_texts(ids, self.text.pad_id, self.text.max_length),
            keys=keys_of(self.dataset, of_pictures),
        )
        targets_BA = torch.stack([soft_targets(example.answers, self.answer_index) for example in chosen])
        return VQABatch(
            pairs=pairs, targets_BA=targets_BA, question_ids=tuple(example.question_id for example in chosen)
        )
