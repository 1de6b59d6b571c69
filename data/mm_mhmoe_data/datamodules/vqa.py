"""Batches for fine-tuning on questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mm_mhmoe.config import TextConfig, VisionConfig
from mm_mhmoe_data.config import DataConfig
from mm_mhmoe_data.datamodules.steps import OneStreamDataModule, train_transform
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.questions import Questions
from mm_mhmoe_data.samples import Pictures
from mm_mhmoe_data.sampling import ShuffledOrder
from mm_mhmoe_data.tokenizer import Tokenizer
from mm_mhmoe_data.vqa_data import VQAExample


class VQADataModule(OneStreamDataModule):
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
        self.stream = Questions(self.dataset, examples, answers, pictures, tokenizer, text, self.quarantine)
        self.order = ShuffledOrder([len(self.stream)], seed=seed, window=len(self.stream))
        self.batch_size = batch_size
