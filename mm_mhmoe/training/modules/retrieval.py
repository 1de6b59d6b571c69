"""Contrastive fine-tuning."""

from __future__ import annotations

from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.models.tasks import RetrievalModel
from mm_mhmoe.objectives.contrastive import info_nce
from mm_mhmoe.objectives.gather import gather_over_ranks
from mm_mhmoe.objectives.gradient_cache import embed_in_chunks
from mm_mhmoe.training.modules.run import RunModule, StepResult, finish_step
from mm_mhmoe.training.optim import OptimConfig


class RetrievalModule(RunModule):
    """Contrastive fine-tuning of a dual encoder. Negatives are those of all processes' batches.

    Args:
        chunk: pairs whose graph is kept at a time (`embed_in_chunks`); None: all of a batch.
    """

    model: RetrievalModel

    def __init__(self, model: RetrievalModel, optim: OptimConfig, *, steps: int, chunk: int | None = None) -> None:
        super().__init__(optim, steps=steps, depth=model.config.depth)
        self.model = model
        self.chunk = chunk

    def training_step(self, batch: ImageTextBatch, batch_idx: int) -> StepResult:
        image_BP, text_BP, output = embed_in_chunks(self.model, batch, self.chunk)
        contrastive = info_nce(image_BP, text_BP, self.model.head.scale, gather_over_ranks())
        values = {"contrastive": contrastive, "scale": self.model.head.scale}
        return finish_step(self, self.model, contrastive, output, values, shown=tuple(values))
