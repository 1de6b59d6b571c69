"""Batches for contrastive fine-tuning."""

from __future__ import annotations

from pathlib import Path

from mm_mhmoe.config import TextConfig, VisionConfig
from mm_mhmoe_data.config import DataConfig
from mm_mhmoe_data.datamodules.steps import OneStreamDataModule, train_transform
from mm_mhmoe_data.samples import Captions, Pictures, Stream
from mm_mhmoe_data.sources import Streams
from mm_mhmoe_data.tokenizer import Tokenizer


class RetrievalDataModule(OneStreamDataModule):
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
        quarantine: Path | None = None,
    ) -> None:
        super().__init__(num_steps=num_steps, workers=workers, seed=seed, data=data, quarantine=quarantine)
        self.dataset, self.order = Streams(str(shards), data).open("pairs", seed=seed)
        transform = train_transform(vision.image_size, min_scale, data)
        pictures = Pictures(self.dataset, transform, grid=vision.grid, stream="retrieval", seed=seed)
        captions = Captions(self.dataset, tokenizer, text, stream="retrieval", seed=seed, captions=data.captions)
        self.stream = Stream(self.dataset, pictures, captions, self.quarantine)
        self.batch_size = batch_size
