"""Batches of pairs: for contrastive fine-tuning, and for captions."""

from __future__ import annotations

from pathlib import Path

from mm_mhmoe.config import TextConfig, VisionConfig
from mm_mhmoe_data.config import DataConfig
from mm_mhmoe_data.datamodules.steps import OneStreamDataModule, train_transform
from mm_mhmoe_data.samples import Captions, Pictures, Stream
from mm_mhmoe_data.sources import Streams
from mm_mhmoe_data.tokenizer import Tokenizer


class PairDataModule(OneStreamDataModule):
    """Pairs: ImageTextBatch. Of a picture with several captions, one is drawn every epoch.

    Args:
        task: goes into the random state, so that tasks draw other crops and captions.
        text_mask: share of a caption's words and end token that is hidden on average; 0: none is.
    """

    USES = ("weights", "exclude", "window", "mode", "captions", "whole_word")

    def __init__(
        self,
        shards: str | Path,
        tokenizer: Tokenizer,
        vision: VisionConfig,
        text: TextConfig,
        *,
        task: str,
        batch_size: int,
        num_steps: int,
        seed: int = 0,
        workers: int = 0,
        min_scale: float = 0.5,
        text_mask: float = 0.0,
        data: DataConfig = DataConfig(),  # noqa: B008  (frozen)
        quarantine: Path | None = None,
    ) -> None:
        super().__init__(num_steps=num_steps, workers=workers, seed=seed, data=data, quarantine=quarantine)
        self.dataset, self.order = Streams(str(shards), data).open("pairs", seed=seed)
        transform = train_transform(vision.image_size, min_scale, data)
        pictures = Pictures(self.dataset, transform, grid=vision.grid, stream=task, seed=seed)
        captions = Captions(
            self.dataset,
            tokenizer,
            text,
            stream=task,
            seed=seed,
            mask_ratio=text_mask,
            mask_end=True,
            whole_word=data.whole_word,
            captions=data.captions,
        )
        self.stream = Stream(self.dataset, pictures, captions, self.quarantine)
        self.batch_size = batch_size
