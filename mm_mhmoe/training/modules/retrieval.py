"""Contrastive fine-tuning."""

from __future__ import annotations

import torch
from torch import Tensor

from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.models.tasks import RetrievalModel
from mm_mhmoe.objectives.contrastive import Similarities, similarities
from mm_mhmoe.objectives.gather import gather_over_ranks
from mm_mhmoe.objectives.gradient_cache import embed_in_chunks, in_chunks
from mm_mhmoe.objectives.matching import matching_loss, matching_pairs
from mm_mhmoe.training.modules.run import RunModule, StepResult, finish_step
from mm_mhmoe.training.optim import OptimConfig


class RetrievalModule(RunModule):
    """Contrastive fine-tuning of a dual encoder, and of its match head where it has one.

    Negatives are those of all processes' batches. As in pretraining, the routers' losses are those of the contrastive
    pass.

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
        scale = self.model.head.scale
        similar = similarities(image_BP, text_BP, scale, gather_over_ranks())
        loss = similar.loss()
        values = {"contrastive": loss, "scale": scale}
        if self.model.match_head is not None:
            values |= self._matching(self.model.match_head, batch, similar)
            loss = loss + values["match"]
        return finish_step(self, self.model, loss, output, values, shown=("contrastive", "scale"))

    def _matching(self, head: torch.nn.Module, batch: ImageTextBatch, similar: Similarities) -> dict[str, Tensor]:
        cls = torch.cat(in_chunks(self.model.pair_cls, matching_pairs(batch, similar), self.chunk))
        match = matching_loss(cls, head)
        assert match.correct is not None
        return {"match": match.loss, "match_accuracy": match.correct / match.positions}
