"""An encoder that writes captions. Shapes: B batch, R rows of texts, L text length, D model dim, V vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mm_mhmoe.batch import Images, ImageTextBatch, Texts
from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.models.beam_search import SearchOptions, beam_search
from mm_mhmoe.models.cache import DecodingCache
from mm_mhmoe.models.encoder import EncoderOutput
from mm_mhmoe.models.heads import MaskedHead
from mm_mhmoe.models.tasks.base import TaskModel


class CaptionModel(TaskModel):
    """Picture and caption in one row; a mask token that sees the picture and the text before it tells the token in its
    place (BEiT-3's masked sequence-to-sequence captioning, arXiv 2208.10442).

    So it writes by asking with a mask token behind what is written. Pretraining on captions from left to right
    (objectives/captioning.py) tells the next token from the state of the one before instead.

    Args:
        search: how captions are looked for.
    """

    kind = "captioning"

    def __init__(self, config: EncoderConfig, search: SearchOptions = SearchOptions()) -> None:  # noqa: B008  (frozen)
        super().__init__(config)
        longest = config.text.max_length
        if search.max_length is not None and search.max_length > longest:
            raise ValueError(
                f"search.max_length={search.max_length} is more than encoder.text.max_length={longest}; lower it"
            )
        self.search = search
        self.head = MaskedHead(config.dim, config.text.vocab_size)

    def forward(self, pairs: ImageTextBatch) -> tuple[Tensor, EncoderOutput]:
        """States of the texts (B, L, D), and the encoder's output. Raises ValueError unless texts are causal."""
        output = self.encoder(pairs)
        text_BLD = output.streams[0].text_BLD
        if text_BLD is None or output.streams[0].image_BND is None or not pairs.causal_text:
            raise ValueError("CaptionModel: the batch needs pictures, and captions with causal_text=True")
        return text_BLD, output

    @torch.no_grad()
    def write_captions(self, images: Images) -> list[list[int]]:
        """Token ids of a caption for each picture, without begin and end."""
        text = self.config.text
        written = beam_search(
            CaptionWriter(self, images),
            self.search,
            max_tokens=(self.search.max_length or text.max_length) - 1,
            end=text.eos_id,
            never=(text.bos_id, text.pad_id, text.unk_id, text.mask_id),
        )
        return [caption.tokens for caption in written]

    def describe_head(self) -> dict[str, Any]:
        return {"search": self.search.to_dict()}

    def shared_heads(self, other: Mapping[str, Any]) -> dict[str, str]:
        """The head over word pieces, which a pretraining model has too; whatever the search."""
        names = {"pretrain": "text_head.", self.kind: "head."}
        return {names[other["kind"]]: "head."} if other["kind"] in names else {}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> CaptionModel:
        return cls(EncoderConfig.from_dict(description["encoder"]), SearchOptions(**description["search"]))


class CaptionWriter:
    """A `Writer` of captions, which keeps keys and values of the pictures and of what is written."""

    def __init__(self, model: CaptionModel, images: Images) -> None:
        self.model = model
        self.images = images
        self.cache: DecodingCache | None = None

    def begin(self) -> Tensor:
        begin_B = torch.full((len(self.images),), self.model.text.bos_id, device=self.images.pixels_BCHW.device)
        self.cache = None
        return self._ask(begin_B, self.images)

    def go_on(self, from_R: Tensor, tokens_R: Tensor) -> Tensor:
        assert self.cache is not None
        self.cache = self.cache.rows(from_R)
        return self._ask(tokens_R)

    def _ask(self, tokens_R: Tensor, images: Images | None = None) -> Tensor:
        """Adds a token to each row, and asks for the one behind it with a mask token, which is not kept."""
        ids_R2 = torch.stack([tokens_R, torch.full_like(tokens_R, self.model.text.mask_id)], dim=1)
        texts = Texts(ids_BL=ids_R2, valid_BL=torch.ones_like(ids_R2, dtype=torch.bool))
        output, cache = self.model.encoder.decode(
            ImageTextBatch(images=images, texts=texts, causal_text=True), self.cache
        )
        self.cache = cache.without_last()
        text_BLD = output.streams[0].text_BLD
        assert text_BLD is not None
        return self.model.head(text_BLD[:, -1]).float().log_softmax(dim=1)
