"""Batches for fine-tuning on questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mm_mhmoe.batch import VQABatch
from mm_mhmoe.config import TextConfig, VisionConfig
from mm_mhmoe_data.config import DataConfig
from mm_mhmoe_data.datamodules.steps import StepDataModule, train_transform
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.questions import Questions
from mm_mhmoe_data.ring import Empty, fresh
from mm_mhmoe_data.samples import Pictures
from mm_mhmoe_data.sampling import ShuffledOrder
from mm_mhmoe_data.tokenizer import Tokenizer
from mm_mhmoe_data.vqa_data import VQAExample


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
        data: DataConfig = DataConfig(),  # noqa: B008  (frozen)
        quarantine: Path | None = None,
    ) -> None:
        super().__init__(num_steps=num_steps, workers=workers, seed=seed, data=data, quarantine=quarantine)
        self.dataset = ShardDataset(shards, "images")
        transform = train_transform(vision.image_size, min_scale, data)
        pictures = Pictures(self.dataset, transform, grid=vision.grid, stream="vqa", seed=seed)
        self.questions = Questions(self.dataset, examples, answers, pictures, tokenizer, text, self.quarantine)
        self.order = ShuffledOrder([len(self.questions)], seed=seed, window=len(self.questions))
        self.batch_size = batch_size

    def setup(self, stage: str) -> None:
        self.picks = self.steps(self.order, self.batch_size)

    def make_batch(self, step: int, empty: Empty = fresh) -> VQABatch:
        return self.questions(self.picks(step), empty)
