"""Fine-tuning on questions."""

from __future__ import annotations

from mm_mhmoe.batch import VQABatch
from mm_mhmoe.models.tasks import VQAModel
from mm_mhmoe.objectives.vqa import soft_target_bce
from mm_mhmoe.training.modules.run import RunModule, StepResult, finish_step
from mm_mhmoe.training.optim import OptimConfig


class VQAModule(RunModule):
    """Fine-tuning of a fusion encoder on questions with soft answers."""

    model: VQAModel

    def __init__(self, model: VQAModel, optim: OptimConfig, *, steps: int) -> None:
        super().__init__(optim, steps=steps, depth=model.config.depth)
        self.model = model

    def training_step(self, batch: VQABatch, batch_idx: int) -> StepResult:
        logits_BA, output = self.model(batch.pairs)
        answer = soft_target_bce(logits_BA, batch.targets_BA)
        score = batch.targets_BA.gather(1, logits_BA.detach().argmax(dim=1, keepdim=True)).mean()
        values = {"answer": answer, "score": score}
        return finish_step(self, self.model, answer, output, values, shown=tuple(values))
