"""Training of the visual tokenizer."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.models.teachers import Teacher
from mm_mhmoe.models.vector_quantizer import perplexity
from mm_mhmoe.models.visual_tokenizer import VisualTokenizer
from mm_mhmoe.training.modules.run import RunModule, sum_over_ranks
from mm_mhmoe.training.optim import OptimConfig


class VisualTokenizerModule(RunModule):
    """Trains the visual tokenizer; the codebook follows by moving averages, not by gradient.

    Args:
        teacher: gives the targets. It is frozen and kept out of checkpoints, which name it only.
        codebook_start: the batch that k-means starts the codebook on. Before it the vectors pass unquantised: at random
            weights they all point one way, and a codebook started there stays collapsed.
    """

    model: VisualTokenizer

    def __init__(
        self, model: VisualTokenizer, teacher: Teacher, optim: OptimConfig, *, steps: int, codebook_start: int = 0
    ) -> None:
        super().__init__(optim, steps=steps, depth=model.config.encoder_depth)
        self.model = model
        self.codebook_start = codebook_start
        self._teacher = (teacher,)  # in a tuple torch does not register it, so it is neither saved nor optimised

    def on_fit_start(self) -> None:
        self._teacher[0].to(self.device)

    def on_train_batch_start(self, batch: ImageTextBatch, batch_idx: int) -> None:
        if batch_idx == self.codebook_start:
            assert batch.images is not None
            with torch.no_grad():
                self.model.quantizer.start(self.model.vectors(batch.images.pixels_BCHW).flatten(0, 1))
            if dist.is_initialized():
                dist.broadcast(self.model.quantizer.codebook_KC, src=0)

    def on_step_skipped(self) -> None:
        # The codebook is what it was before the step, so it starts at the next one.
        accumulate = self.trainer.accumulate_grad_batches
        if self.trainer.global_step * accumulate == self.codebook_start:
            self.codebook_start += accumulate

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["codebook_start"] = self.codebook_start

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.codebook_start = checkpoint.get("codebook_start", self.codebook_start)

    def training_step(self, batch: ImageTextBatch, batch_idx: int) -> Tensor:
        assert batch.images is not None
        quantized = batch_idx >= self.codebook_start
        pixels_BCHW = batch.images.pixels_BCHW
        loss = self.model.loss(pixels_BCHW, self._teacher[0](pixels_BCHW), quantized=quantized)
        revived = 0
        if quantized:
            revived = self.model.quantizer.update(loss.vectors_NC, loss.codes_N, sum_over_ranks)
        values = {
            "loss": loss.total,
            "distance": loss.distance,
            "commitment": loss.commitment,
            "codes_used": self.model.quantizer.used,
            "codes_in_batch": (loss.codes_N.bincount(minlength=self.model.config.num_codes) > 0).float().mean(),
            "code_perplexity": perplexity(loss.codes_N),
            "codes_revived": float(revived),
        }
        self.log_step(values, shown=("distance", "code_perplexity"), tokens=len(loss.codes_N))
        return loss.total
