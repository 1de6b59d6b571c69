"""A fusion encoder that judges a sentence about two pictures. Shapes: B batch, D model dim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.models.encoder import EncoderOutput, StreamStates
from mm_mhmoe.models.heads import TwoPictureHead
from mm_mhmoe.models.tasks.base import TaskModel


class NLVR2Model(TaskModel):
    """Each picture goes through the encoder in one row with the sentence; the [CLS] of both pictures and both copies of
    the sentence decide together (BEiT-3, arXiv 2208.10442, section 3.1).
    """

    kind = "nlvr2"

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.head = TwoPictureHead(config.dim, norm_eps=config.norm_eps)

    def forward(self, left: ImageTextBatch, right: ImageTextBatch) -> tuple[Tensor, EncoderOutput]:
        """Logits (B, 2), [0] false and [1] true, and the encoder's output. Both sides go through it as two streams."""
        output = self.encoder(left, right)
        cls_BF = torch.cat([part for states in output.streams for part in _cls_of(states)], dim=-1)
        return self.head(cls_BF), output

    @torch.no_grad()
    def judge(self, left: ImageTextBatch, right: ImageTextBatch) -> Tensor:
        """Logits (B, 2) of false and true."""
        return self.forward(left, right)[0]

    def describe_head(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> NLVR2Model:
        return cls(EncoderConfig.from_dict(description["encoder"]))


def _cls_of(states: StreamStates) -> tuple[Tensor, Tensor]:
    if states.image_BND is None or states.text_BLD is None:
        raise ValueError("NLVR2Model: both sides of the batch need pictures and sentences; one of them is missing")
    return states.image_BND[:, 0], states.text_BLD[:, 0]
