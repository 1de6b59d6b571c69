"""Fine-tuning on captions."""

from __future__ import annotations

from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.models.tasks import CaptionModel
from mm_mhmoe.objectives.masked_captioning import hidden_caption_loss, hidden_captions
from mm_mhmoe.training.modules.run import RunModule, StepResult, finish_step
from mm_mhmoe.training.optim import OptimConfig


class CaptionModule(RunModule):
    """Fine-tuning on hidden words of captions, each told from the picture and what is written before it.

    Args:
        smoothing: of the targets.
        drop_worst: share of a batch's hidden words that is left out for its large loss, from step drop_worst_after on.
    """

    model: CaptionModel

    def __init__(
        self,
        model: CaptionModel,
        optim: OptimConfig,
        *,
        steps: int,
        smoothing: float = 0.1,
        drop_worst: float = 0.2,
        drop_worst_after: int = 12_000,
    ) -> None:
        super().__init__(optim, steps=steps, depth=model.config.depth)
        self.model = model
        self.smoothing = smoothing
        self.drop_worst = drop_worst
        self.drop_worst_after = drop_worst_after

    def training_step(self, batch: ImageTextBatch, batch_idx: int) -> StepResult:
        assert batch.texts is not None
        text_BLD, output = self.model(hidden_captions(batch, self.model.text))
        dropped = self.drop_worst if self.global_step >= self.drop_worst_after else 0.0
        caption = hidden_caption_loss(self.model, text_BLD, batch.texts, smoothing=self.smoothing, drop_worst=dropped)
        assert caption.correct is not None
        values = {"caption": caption.loss, "accuracy": caption.correct / max(1, caption.positions)}
        return finish_step(self, self.model, caption.loss, output, values, shown=tuple(values))
