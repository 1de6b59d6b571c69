"""A dual encoder, by option with a second look at what it finds. Shapes: B batch, D model dim, P embedding dim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mm_mhmoe.batch import Images, ImageTextBatch, Texts
from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.models.encoder import EncoderOutput, cls_state
from mm_mhmoe.models.heads import ContrastiveHead, MatchHead
from mm_mhmoe.models.tasks.base import TaskModel


class RetrievalModel(TaskModel):
    """Dual encoder: pictures and texts as separate streams of one encoder, compared by their [CLS] states.

    Args:
        embed_dim: width of the embeddings that are compared.
        match: whether the same encoder also reads a picture and a text as one row and says whether they belong
            together, to put the best candidates into a better order.
    """

    kind = "retrieval"

    def __init__(self, config: EncoderConfig, embed_dim: int, *, match: bool = False) -> None:
        super().__init__(config)
        self.embed_dim = embed_dim
        self.head = ContrastiveHead(config.dim, embed_dim)
        self.match_head = MatchHead(config.dim) if match else None

    def forward(self, pairs: ImageTextBatch) -> tuple[Tensor, Tensor, EncoderOutput]:
        """Embeddings (B, P) of both sides, encoded as two streams in one pass, and the encoder's output."""
        output = self.encoder(ImageTextBatch(images=pairs.images), ImageTextBatch(texts=pairs.texts))
        image_BND, text_BLD = output.streams[0].image_BND, output.streams[1].text_BLD
        assert image_BND is not None and text_BLD is not None
        return self.head.embed_image(cls_state(image_BND)), self.head.embed_text(cls_state(text_BLD)), output

    @torch.no_grad()
    def embed_images(self, images: Images) -> Tensor:
        """L2-normalised (B, P)."""
        image_BND = self.encoder(ImageTextBatch(images=images)).streams[0].image_BND
        assert image_BND is not None
        return self.head.embed_image(cls_state(image_BND))

    @torch.no_grad()
    def embed_texts(self, texts: Texts) -> Tensor:
        """L2-normalised (B, P)."""
        text_BLD = self.encoder(ImageTextBatch(texts=texts)).streams[0].text_BLD
        assert text_BLD is not None
        return self.head.embed_text(cls_state(text_BLD))

    def pair_cls(self, pairs: ImageTextBatch) -> Tensor:
        """[CLS] of picture and text in one row (B, D), which the match head reads."""
        image_BND = self.encoder(pairs).streams[0].image_BND
        assert image_BND is not None
        return cls_state(image_BND)

    @torch.no_grad()
    def rescore(self, pairs: ImageTextBatch, cosine_B: Tensor) -> Tensor:
        """Scores (B,) by which candidates of one query are put in order: log-odds of the match head plus scaled cosine.

        The head learns on negatives that are drawn by the scaled cosines' softmax, so its odds say by how much a pair
        is likelier than these let expect; in the sum nothing counts twice.

        Args:
            cosine_B: of the pairs' embeddings.

        Raises:
            ValueError: the model has no match head.
        """
        if self.match_head is None:
            raise ValueError("this retrieval model has no match head to re-rank with; fine-tune it with --match true")
        no_B, yes_B = self.match_head(self.pair_cls(pairs)).float().unbind(dim=1)
        return yes_B - no_B + self.head.scale * cosine_B

    def describe_head(self) -> dict[str, Any]:
        told = {"embed_dim": self.embed_dim}
        return told if self.match_head is None else {**told, "match": True}

    def shared_heads(self, other: Mapping[str, Any]) -> dict[str, str]:
        if other.get("embed_dim") != self.embed_dim or other["kind"] not in ("pretrain", self.kind):
            return {}
        shared = {"head.": "head."} if other["kind"] == self.kind else {"contrastive_head.": "head."}
        if self.match_head is not None and (other["kind"] == "pretrain" or other.get("match")):
            shared["match_head."] = "match_head."
        return shared

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> RetrievalModel:
        encoder = EncoderConfig.from_dict(description["encoder"])
        return cls(encoder, description["embed_dim"], match=description.get("match", False))
