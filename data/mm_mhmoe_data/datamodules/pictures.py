"""Batches for the visual tokenizer."""

from __future__ import annotations

from pathlib import Path

from mm_mhmoe.config import VisionConfig
from mm_mhmoe_data.config import DataConfig
from mm_mhmoe_data.datamodules.steps import OneStreamDataModule, train_transform
from mm_mhmoe_data.samples import Pictures, Stream
from mm_mhmoe_data.sources import Streams


class PictureDataModule(OneStreamDataModule):
    """Pictures alone, for the visual tokenizer: ImageTextBatch."""

    USES = ("weights", "image_shards", "image_weights", "exclude", "window", "mode")

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
        quarantine: Path | None = None,
    ) -> None:
        super().__init__(num_steps=num_steps, workers=workers, seed=seed, data=data, quarantine=quarantine)
        self.dataset, self.order = Streams(str(shards), data).open("images", seed=seed)
        transform = train_transform(vision.image_size, min_scale, data)
        pictures = Pictures(self.dataset, transform, grid=vision.grid, stream="vqkd", seed=seed)
        self.stream = Stream(self.dataset, pictures, None, self.quarantine)
        self.batch_size = batch_size
