"""The base of every model that is trained on top of an encoder. Shapes: B batch, D model dim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mm_mhmoe.batch import Images, ImageTextBatch
from mm_mhmoe.config import EncoderConfig, TextConfig, VisionConfig
from mm_mhmoe.models.builder import build_encoder
from mm_mhmoe.models.encoder import Encoder


class TaskModel(nn.Module):
    """An encoder that knows its configuration; the base of every model with an encoder that is saved and loaded.

    kind: what config.json calls models of the class.
    """

    kind: ClassVar[str]

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder: Encoder = build_encoder(config)

    @property
    def vision(self) -> VisionConfig:
        return self.config.vision

    @property
    def text(self) -> TextConfig:
        return self.config.text

    @torch.no_grad()
    def image_features(self, images: Images) -> Tensor:
        """(B, D), the mean state of a picture's patches: what a probe sees of the encoder."""
        image_BND = self.encoder(ImageTextBatch(images=images)).streams[0].image_BND
        assert image_BND is not None
        return image_BND[:, 1:].mean(dim=1)

    def describe(self) -> dict[str, Any]:
        """All that is needed to build the model again without its weights, as JSON takes it."""
        return {"kind": self.kind, "encoder": self.config.to_dict(), **self.describe_head()}

    def describe_head(self) -> dict[str, Any]:
        """What the class needs beside the encoder's configuration."""
        raise NotImplementedError

    def shared_heads(self, other: Mapping[str, Any]) -> dict[str, str]:
        """Which heads of another model mean the same as this one's: how names of their weights begin there, and here.

        Args:
            other: what it tells by `describe`.
        """
        return {"head.": "head."} if {**self.describe(), "encoder": other["encoder"]} == other else {}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> TaskModel:
        """The inverse of `describe`, with fresh weights. Raises KeyError for an entry that is not there."""
        raise NotImplementedError
