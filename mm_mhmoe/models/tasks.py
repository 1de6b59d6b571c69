"""The models that runs train: an encoder with the heads of its task.

Shapes: B batch, D model dim, P embedding dim, A answers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mm_mhmoe.batch import Images, ImageTextBatch, Texts
from mm_mhmoe.config import EncoderConfig, TextConfig, VisionConfig
from mm_mhmoe.models.builder import build_encoder
from mm_mhmoe.models.encoder import Encoder, EncoderOutput
from mm_mhmoe.models.heads import AnswerHead, ContrastiveHead, MaskedHead, MatchHead
from mm_mhmoe.models.image_target import ImageTarget


class TaskModel(nn.Module):
    """An encoder that knows its configuration; the base of every model that is saved and loaded."""

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


class RetrievalModel(TaskModel):
    """Dual encoder: pictures and texts as separate streams of one encoder, compared by their [CLS] states."""

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


class VQAModel(TaskModel):
    """Fusion encoder: picture and question in one row, answered from the pair's [CLS] over a fixed answer list."""

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
        return self.head(image_BND[:, 0]), output

    @torch.no_grad()
    def answer_logits(self, pairs: ImageTextBatch) -> Tensor:
        return self.forward(pairs)[0]
