"""The model of masked pretraining. Shapes: B rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.models.heads import ContrastiveHead, MaskedHead, MatchHead
from mm_mhmoe.models.image_target import ImageTarget
from mm_mhmoe.models.likelihood import Reading, continuation_log_likelihood
from mm_mhmoe.models.tasks.base import TaskModel


class PretrainModel(TaskModel):
    """The encoder with a head for hidden patches and a head over text pieces.

    `from_cls` turns a [CLS] state and the position of a hidden patch or word into a state for the same heads. What a
    [CLS] has to tell about all hidden positions is a summary of its row; without such a task nothing in masked
    pretraining would train it (BEiT-v2's patch aggregation, arXiv 2208.06366, has the same aim and uses extra blocks).

    Args:
        image_outputs: width of the image head: vocabulary of the visual tokenizer, or values of another target.
        image_target: what its outputs mean.
        embed_dim: width of the embeddings that the contrastive loss compares; None: no heads for it and for matching.
    """

    kind = "pretrain"

    def __init__(
        self,
        config: EncoderConfig,
        image_outputs: int,
        image_target: ImageTarget = ImageTarget(),  # noqa: B008  (frozen)
        *,
        embed_dim: int | None = None,
    ) -> None:
        super().__init__(config)
        self.image_outputs = image_outputs
        self.image_target = image_target
        self.embed_dim = embed_dim
        self.image_head = MaskedHead(config.dim, image_outputs)
        self.text_head = MaskedHead(config.dim, config.text.vocab_size)
        self.from_cls = nn.Sequential(
            nn.Linear(config.dim, 2 * config.dim),
            nn.GELU(),
            nn.Linear(2 * config.dim, config.dim),
            nn.LayerNorm(config.dim, eps=config.norm_eps),
        )
        self.contrastive_head = None if embed_dim is None else ContrastiveHead(config.dim, embed_dim)
        self.match_head = None if embed_dim is None else MatchHead(config.dim)

    @property
    def num_codes(self) -> int:
        """Vocabulary of the visual tokenizer. Raises ValueError if hidden patches are not predicted as codes."""
        if self.image_target.kind != "codes":
            raise ValueError(
                f"this model was pretrained with image_target={self.image_target.kind}; it predicts no codes of "
                "hidden patches, which are needed here: choose a model of image_target=codes"
            )
        return self.image_outputs

    def continuation_log_likelihood(self, pairs: ImageTextBatch, start_B: Tensor, reading: Reading) -> Tensor:
        """Nats (B,) of the texts from these places on, given pictures and what stands before; see `Reading`."""
        return continuation_log_likelihood(self.encoder, self.text_head, pairs, start_B, reading)

    def describe_head(self) -> dict[str, Any]:
        told = {"image_target": self.image_target.to_dict(), "image_outputs": self.image_outputs}
        return told if self.embed_dim is None else {**told, "embed_dim": self.embed_dim}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> PretrainModel:
        encoder = EncoderConfig.from_dict(description["encoder"])
        return cls(encoder, *described_image_head(description), embed_dim=description.get("embed_dim"))


def described_image_head(description: Mapping[str, Any]) -> tuple[int, ImageTarget]:
    """Width and meaning of a pretraining model's image head. Models of earlier versions know codes only."""
    if "image_target" not in description:
        return description["num_codes"], ImageTarget()
    return description["image_outputs"], ImageTarget.from_dict(description["image_target"])
