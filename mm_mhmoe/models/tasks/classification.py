"""An encoder that tells classes of pictures. Shapes: B batch, D model dim, C classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mm_mhmoe.batch import Images, ImageTextBatch
from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.models.encoder import EncoderOutput
from mm_mhmoe.models.heads import ClassHead
from mm_mhmoe.models.tasks.base import TaskModel


class ClassificationModel(TaskModel):
    """A picture alone, classified from the mean state of its patches over a fixed list of classes."""

    kind = "classification"

    def __init__(self, config: EncoderConfig, classes: Sequence[str]) -> None:
        super().__init__(config)
        if not classes:
            raise ValueError("ClassificationModel: there are no classes; give those of the training pictures")
        self.classes = tuple(classes)
        self.head = ClassHead(config.dim, len(self.classes), norm_eps=config.norm_eps)

    def forward(self, images: Images) -> tuple[Tensor, EncoderOutput]:
        """Logits (B, C), and the encoder's output."""
        output = self.encoder(ImageTextBatch(images=images))
        image_BND = output.streams[0].image_BND
        assert image_BND is not None
        return self.head(image_BND[:, 1:]), output

    @torch.no_grad()
    def class_logits(self, images: Images) -> Tensor:
        return self.forward(images)[0]

    def describe_head(self) -> dict[str, Any]:
        return {"classes": list(self.classes)}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> ClassificationModel:
        return cls(EncoderConfig.from_dict(description["encoder"]), description["classes"])
