"""A dual encoder. Shapes: B batch, D model dim, P embedding dim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mm_mhmoe.batch import Images, ImageTextBatch, Texts
from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.models.encoder import EncoderOutput
from mm_mhmoe.models.heads import ContrastiveHead
from mm_mhmoe.models.tasks.base import TaskModel


class RetrievalModel(TaskModel):
    """Dual encoder: pictures and texts as separate streams of one encoder, compared by their [CLS] states."""

    kind = "retrieval"

    def __init__(self, config: EncoderConfig, embed_dim: int) -> None:
        super().__init__(config)
        self.embed_dim = embed_dim
        self.head = ContrastiveHead(config.dim, embed_dim)

    def forward(self, pairs: ImageTextBatch) -> tuple[Tensor, Tensor, EncoderOutput]:
        """Embeddings (B, P) of both sides, encoded as two streams in one pass, and the encoder's output."""
        output = self.encoder(ImageTextBatch(images=pairs.images), ImageTextBatch(texts=pairs.texts))
        image_BND, text_BLD = output.streams[0].image_BND, output.streams[1].text_BLD
        assert image_BND is not None and text_BLD is not None
        return self.head.embed_image(image_BND[:, 0]), self.head.embed_text(text_BLD[:, 0]), output

    @torch.no_grad()
    def embed_images(self, images: Images) -> Tensor:
        """L2-normalised (B, P)."""
        image_BND = self.encoder(ImageTextBatch(images=images)).streams[0].image_BND
        assert image_BND is not None
        return self.head.embed_image(image_BND[:, 0])

    @torch.no_grad()
    def embed_texts(self, texts: Texts) -> Tensor:
        """L2-normalised (B, P)."""
        text_BLD = self.encoder(ImageTextBatch(texts=texts)).streams[0].text_BLD
        assert text_BLD is not None
        return self.head.embed_text(text_BLD[:, 0])

    def describe_head(self) -> dict[str, Any]:
        return {"embed_dim": self.embed_dim}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> RetrievalModel:
        return cls(EncoderConfig.from_dict(description["encoder"]), description["embed_dim"])
