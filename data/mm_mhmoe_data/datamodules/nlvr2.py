"""Batches for fine-tuning on sentences about two pictures."""

from __future__ import annotations

from pathlib import Path

from mm_mhmoe.config import TextConfig, VisionConfig
from mm_mhmoe_data.config import DataConfig
from mm_mhmoe_data.datamodules.steps import OneStreamDataModule, train_transform
from mm_mhmoe_data.sampling import ShuffledOrder
from mm_mhmoe_data.statements import StatementBatches, Statements
from mm_mhmoe_data.tokenizer import Tokenizer


class NLVR2DataModule(OneStreamDataModule):
    """Two pictures, a sentence, and whether it is true: NLVR2Batch."""

    USES = ("window",)

    def __init__(
        self,
        statements: Statements,
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
        quarantine: Path | None = None,
    ) -> None:
        super().__init__(num_steps=num_steps, workers=workers, seed=seed, data=data, quarantine=quarantine)
        transform = train_transform(vision.image_size, min_scale, data)
        self.stream = StatementBatches(statements, transform, tokenizer, text, seed=seed, quarantine=self.quarantine)
        self.order = ShuffledOrder(statements.counts, seed=seed, window=data.window)
        self.batch_size = batch_size
