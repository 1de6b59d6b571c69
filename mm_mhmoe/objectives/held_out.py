"""How well hidden positions are predicted, one by one. Shapes: B batch, M hidden positions, D model dim."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.config import TextConfig, VisionConfig
from mm_mhmoe.models.tasks import PretrainModel
from mm_mhmoe.models.visual_tokenizer import VisualTokenizer
from mm_mhmoe.objectives.masked import HiddenPart, hidden_parts
from mm_mhmoe.objectives.picture_targets import CodeTarget


class HiddenPredictions(NamedTuple):
    """rows_M: the row of the batch that each hidden position lies in; nats_M: its cross-entropy; correct_M: bool."""

    rows_M: Tensor
    nats_M: Tensor
    correct_M: Tensor


class HiddenPredictor(nn.Module):
    """A pretrained model together with the visual tokenizer whose codes it predicts.

    Raises:
        ValueError: the model predicts something else than codes, or another number of them.
    """

    def __init__(self, model: PretrainModel, visual_tokenizer: VisualTokenizer) -> None:
        super().__init__()
        if model.num_codes != visual_tokenizer.config.num_codes:
            raise ValueError(
                f"the model predicts {model.num_codes} codes, but the visual tokenizer has "
                f"{visual_tokenizer.config.num_codes}; name the one that it was pretrained with"
            )
        self.model = model
        self.target = CodeTarget(visual_tokenizer)

    @property
    def vision(self) -> VisionConfig:
        return self.model.vision

    @property
    def text(self) -> TextConfig:
        return self.model.text

    @torch.no_grad()
    def predict_hidden(self, batch: ImageTextBatch, stream: str) -> dict[str, HiddenPredictions]:
        """Of each modality of the stream, by the names that the masked losses have."""
        states = self.model.encoder(batch).streams[0]
        parts = hidden_parts(self.model, self.target, stream, batch, states)
        return {name: _predictions(part) for name, part in parts.items()}


def _predictions(part: HiddenPart) -> HiddenPredictions:
    masked_BL = part.masked_BL
    logits_MV, targets_M = part.head(part.states_BLD[masked_BL]).float(), part.targets_BL[masked_BL]
    return HiddenPredictions(
        rows_M=masked_BL.nonzero()[:, 0],
        nats_M=F.cross_entropy(logits_MV, targets_M, reduction="none"),
        correct_M=logits_MV.argmax(dim=1) == targets_M,
    )
