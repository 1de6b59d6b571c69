"""Training of language models."""

from __future__ import annotations

from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.models.encoder import EncoderOutput
from mm_mhmoe.models.tasks import LanguageModel
from mm_mhmoe.objectives.language import next_token_loss
from mm_mhmoe.objectives.masked import MaskedLoss
from mm_mhmoe.training.modules.run import RunModule, StepResult, finish_step
from mm_mhmoe.training.optim import OptimConfig


class LanguageModule(RunModule):
    """Predicts every token from those before it."""

    model: LanguageModel

    def __init__(self, model: LanguageModel, optim: OptimConfig, *, steps: int) -> None:
        super().__init__(optim, steps=steps, depth=model.config.depth)
        self.model = model

    def _loss(self, batch: ImageTextBatch) -> tuple[MaskedLoss, EncoderOutput]:
        assert batch.texts is not None
        states_BLD, output = self.model(batch.texts)
        return next_token_loss(states_BLD, batch.texts, self.model.head, bos_id=self.model.text.bos_id), output

    def training_step(self, batch: ImageTextBatch, batch_idx: int) -> StepResult:
        found, output = self._loss(batch)
        values = {"next_token": found.loss}
        return finish_step(self, self.model, found.loss, output, values, shown=tuple(values))

    def validation_step(self, batch: ImageTextBatch, batch_idx: int) -> None:
        found, _ = self._loss(batch)
        language = batch.keys[0].split("/")[0]
        for name in ("val/next_token", *([f"val/next_token/{language}"] if language else [])):
            self.log(name, found.loss, batch_size=found.positions, on_step=False, on_epoch=True, sync_dist=True)
