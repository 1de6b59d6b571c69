"""How texts fill their batches: padding, and texts that are longer than the model reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor

from mm_mhmoe.batch import ImageTextBatch, Texts
from mm_mhmoe.models.tasks import TaskModel
from mm_mhmoe.training.run_warnings import RunWarnings


class TextLengths(L.Callback):
    """Logs `train/padded_share`, the places of a batch's texts that hold padding, and warns where texts fill the model.

    The warning comes once, after the first `enough` texts or at the end of a shorter run. A batch does not say whether
    a text that fills the model's length went on. The sequences of language models are always full and do not count.
    """

    def __init__(self, warn: RunWarnings, *, enough: int = 1000) -> None:
        self.warn = warn
        self.enough = enough
        self.seen = 0
        self.full: Tensor | int = 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        texts, model = list(_texts(batch)), pl_module.model
        if not texts or not isinstance(model, TaskModel):
            return
        pl_module.log("train/padded_share", padded_share([part.valid_BL for part in texts]))
        if self.seen >= self.enough:
            return
        length = model.text.max_length
        for part in texts:
            self.seen += len(part)
            if part.valid_BL.shape[1] == length:
                self.full = self.full + part.valid_BL.all(1).sum()  # a device is not waited for here
        if self.seen >= self.enough or trainer.global_step == trainer.max_steps:
            self.warn.say(trainer.global_step, "cut_texts", cut_advice(int(self.full), self.seen, length))


def padded_share(valid: Sequence[Tensor]) -> Tensor:
    """Share of the places of some texts, each (B, L), that hold padding."""
    real = torch.stack([valid_BL.sum() for valid_BL in valid]).sum()
    return 1 - real / sum(valid_BL.numel() for valid_BL in valid)


def cut_advice(full: int, seen: int, length: int) -> str:
    """What to try when some of the texts seen have all the tokens that a model reads; nothing otherwise."""
    if not full:
        return ""
    return (
        f"{full / seen:.1%} of the texts seen fill text.max_length={length}; what is longer loses its end. Raise it, "
        f"or count such texts with: mm-mhmoe data stats --tokenizer DIR --max_length {length}"
    )


def _texts(part: Any) -> Iterator[Texts]:
    if isinstance(part, Texts):
        yield part
    elif is_dataclass(part) and not (isinstance(part, ImageTextBatch) and part.causal_text):
        for field in fields(part):
            yield from _texts(getattr(part, field.name))
