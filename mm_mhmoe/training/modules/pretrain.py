"""Masked pretraining."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mm_mhmoe.batch import PretrainBatch
from mm_mhmoe.models.encoder import EncoderOutput
from mm_mhmoe.models.tasks import PretrainModel
from mm_mhmoe.objectives.gather import gather_over_ranks
from mm_mhmoe.objectives.masked import FROM_CLS, LOSSES, MaskedLoss, masked_losses
from mm_mhmoe.objectives.pairs import PairObjectives, pair_losses, pair_streams
from mm_mhmoe.objectives.picture_targets import CodeTarget, FeatureTarget, PixelTarget
from mm_mhmoe.training.modules.run import RunModule, StepResult, finish_step
from mm_mhmoe.training.optim import OptimConfig


class PretrainModule(RunModule):
    """Masked pretraining on three streams.

    Args:
        target: what hidden patches are predicted as. It is frozen and kept out of checkpoints.
        loss_weights: weight of each loss by name (BEiT-3 published none; 1 where absent).
        from_cls: also predict hidden positions from [CLS] alone.
        objectives: what else is asked of the pairs.

    Raises:
        ValueError: a weight below 0, or of a loss that there is not.
    """

    model: PretrainModel

    def __init__(
        self,
        model: PretrainModel,
        target: CodeTarget | PixelTarget | FeatureTarget,
        optim: OptimConfig,
        *,
        steps: int,
        loss_weights: dict[str, float] | None = None,
        from_cls: bool = False,
        objectives: PairObjectives = PairObjectives(),  # noqa: B008  (frozen)
    ) -> None:
        super().__init__(optim, steps=steps, depth=model.config.depth)
        self.model = model
        self._target = (target.eval(),)  # in a tuple torch does not register it, so it is neither saved nor optimised
        self.loss_weights = loss_weights or {}
        known = (*LOSSES, *(name + FROM_CLS for name in LOSSES if from_cls), *objectives.losses)
        for name, weight in self.loss_weights.items():
            if name not in known:
                raise ValueError(f"loss_weights: {name!r} is no loss of this run; its losses are {', '.join(known)}")
            if not weight >= 0:
                raise ValueError(f"loss_weights: {name}={weight} must be 0 or more")
        self.from_cls = from_cls
        self.objectives = objectives

    def on_fit_start(self) -> None:
        self._target[0].to(self.device)

    def on_validation_start(self) -> None:
        self._target[0].to(self.device)

    def _total(self, losses: dict[str, MaskedLoss]) -> Tensor:
        return torch.stack([self.loss_weights.get(name, 1.0) * part.loss for name, part in losses.items()]).sum()

    def _losses(self, batch: PretrainBatch, objectives: PairObjectives) -> tuple[dict[str, MaskedLoss], EncoderOutput]:
        extra = pair_streams(batch.pairs, objectives)
        losses, output = masked_losses(self.model, self._target[0], batch, from_cls=self.from_cls, extra=extra)
        states = output.streams[len(output.streams) - len(extra) :]
        return losses | pair_losses(self.model, batch.pairs, states, objectives, gather_over_ranks()), output

    def training_step(self, batch: PretrainBatch, batch_idx: int) -> StepResult:
        losses, output = self._losses(batch, self.objectives)
        values = {part.named(name): part.loss for name, part in losses.items()}
        shown = tuple(part.named(name) for name, part in losses.items() if not name.endswith(FROM_CLS))
        return finish_step(self, self.model, self._total(losses), output, values, shown=shown)

    def validation_step(self, batch: PretrainBatch, batch_idx: int) -> None:
        # What is compared within a batch depends on its size, and the last one is smaller.
        losses, _ = self._losses(batch, replace(self.objectives, contrastive=False, itm=False))
        for name, part in losses.items():
            if part.positions:
                rows = {"batch_size": part.positions, "on_step": False, "on_epoch": True, "sync_dist": True}
                self.log(f"val/{part.named(name)}", part.loss, **rows)  # type: ignore[arg-type]
                if part.correct is not None:
                    self.log(f"val/{name}_accuracy", part.correct / part.positions, **rows)  # type: ignore[arg-type]
