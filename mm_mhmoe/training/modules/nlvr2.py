"""Fine-tuning on sentences about two pictures."""

from __future__ import annotations

import torch.nn.functional as F

from mm_mhmoe.batch import NLVR2Batch
from mm_mhmoe.models.tasks import NLVR2Model
from mm_mhmoe.training.modules.run import RunModule, StepResult, finish_step
from mm_mhmoe.training.optim import OptimConfig


class NLVR2Module(RunModule):
    """Fine-tuning of a fusion encoder to tell whether a sentence is true of two pictures (cross-entropy)."""

    model: NLVR2Model

    def __init__(self, model: NLVR2Model, optim: OptimConfig, *, steps: int) -> None:
        super().__init__(optim, steps=steps, depth=model.config.depth)
        self.model = model

    def training_step(self, batch: NLVR2Batch, batch_idx: int) -> StepResult:
        logits_BC, output = self.model(batch.left, batch.right)
        entropy = F.cross_entropy(logits_BC.float(), batch.labels_B)
        accuracy = (logits_BC.detach().argmax(dim=1) == batch.labels_B).float().mean()
        values = {"cross_entropy": entropy, "accuracy": accuracy}
        return finish_step(self, self.model, entropy, output, values, shown=tuple(values))
