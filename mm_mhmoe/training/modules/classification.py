"""Fine-tuning on classes of pictures."""

from __future__ import annotations

import torch.nn.functional as F

from mm_mhmoe.batch import Images, LabelledBatch
from mm_mhmoe.models.tasks import ClassificationModel
from mm_mhmoe.objectives.mixing import MixConfig, mix
from mm_mhmoe.training.modules.run import RunModule, StepResult, finish_step
from mm_mhmoe.training.optim import OptimConfig


class ClassificationModule(RunModule):
    """Fine-tuning of an encoder on classes, with mixed pictures (cross-entropy to the shares of the classes)."""

    model: ClassificationModel

    def __init__(self, model: ClassificationModel, optim: OptimConfig, mixing: MixConfig, *, steps: int) -> None:
        super().__init__(optim, steps=steps, depth=model.config.depth)
        self.model = model
        self.mixing = mixing

    def training_step(self, batch: LabelledBatch, batch_idx: int) -> StepResult:
        assert batch.images.images is not None
        pixels_BCHW, shares_BC = mix(
            batch.images.images.pixels_BCHW, batch.labels_B, len(self.model.classes), self.mixing
        )
        logits_BC, output = self.model(Images(pixels_BCHW=pixels_BCHW))
        entropy = F.cross_entropy(logits_BC.float(), shares_BC)
        # Of a mixed picture, the class of which more is seen counts.
        accuracy = (logits_BC.detach().argmax(dim=1) == shares_BC.argmax(dim=1)).float().mean()
        values = {"cross_entropy": entropy, "accuracy": accuracy}
        return finish_step(self, self.model, entropy, output, values, shown=tuple(values))
