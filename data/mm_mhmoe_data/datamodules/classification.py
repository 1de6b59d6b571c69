"""Batches for fine-tuning on classes."""

from __future__ import annotations

from pathlib import Path

from mm_mhmoe.config import VisionConfig
from mm_mhmoe_data.config import DataConfig
from mm_mhmoe_data.datamodules.steps import OneStreamDataModule, train_transform
from mm_mhmoe_data.labelled import Labelled, LabelledBatches
from mm_mhmoe_data.samples import Pictures
from mm_mhmoe_data.sampling import ShuffledOrder


class ClassificationDataModule(OneStreamDataModule):
    """Pictures and their classes: LabelledBatch."""

    USES = ("window",)

    def __init__(
        self,
        labelled: Labelled,
        vision: VisionConfig,
        *,
        batch_size: int,
        num_steps: int,
        seed: int = 0,
        workers: int = 0,
        min_scale: float = 0.08,
        data: DataConfig = DataConfig(),  # noqa: B008  (frozen)
        quarantine: Path | None = None,
    ) -> None:
        super().__init__(num_steps=num_steps, workers=workers, seed=seed, data=data, quarantine=quarantine)
        transform = train_transform(vision.image_size, min_scale, data)
        pictures = Pictures(labelled.dataset, transform, grid=vision.grid, stream="classification", seed=seed)
        self.stream = LabelledBatches(labelled, pictures, self.quarantine)
        self.order = ShuffledOrder(labelled.counts, seed=seed, window=data.window)
        self.batch_size = batch_size
