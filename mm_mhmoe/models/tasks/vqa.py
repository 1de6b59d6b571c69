"""A fusion encoder that answers questions. Shapes: B batch, D model dim, A answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.models.encoder import EncoderOutput, cls_state
from mm_mhmoe.models.heads import AnswerHead
from mm_mhmoe.models.tasks.base import TaskModel


class VQAModel(TaskModel):
    """Fusion encoder: picture and question in one row, answered from the pair's [CLS] over a fixed answer list."""

    kind = "vqa"

    def __init__(self, config: EncoderConfig, answers: Sequence[str]) -> None:
        super().__init__(config)
        if not answers:
            raise ValueError("VQAModel: the answer vocabulary is empty; give the answers of the training questions")
        self.answers = tuple(answers)
        self.head = AnswerHead(config.dim, len(self.answers), norm_eps=config.norm_eps)

    def forward(self, pairs: ImageTextBatch) -> tuple[Tensor, EncoderOutput]:
        """Logits (B, A), and the encoder's output."""
        output = self.encoder(pairs)
        image_BND = output.streams[0].image_BND
        if image_BND is None or output.streams[0].text_BLD is None:
            raise ValueError("VQAModel: the batch needs pictures and questions; one of them is missing")
        return self.head(cls_state(image_BND)), output

    @torch.no_grad()
    def answer_logits(self, pairs: ImageTextBatch) -> Tensor:
        return self.forward(pairs)[0]

    def describe_head(self) -> dict[str, Any]:
        return {"answers": list(self.answers)}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> VQAModel:
        return cls(EncoderConfig.from_dict(description["encoder"]), description["answers"])
