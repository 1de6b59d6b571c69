"""The encoder: one stack of blocks for pictures, texts and pairs.

Shapes: B batch, N patches, L text length, T tokens of all streams, D model dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.models.block import Block
from mm_mhmoe.models.cache import DecodingCache
from mm_mhmoe.nn import (
    ImageEmbedding,
    KeyValues,
    NormKind,
    Past,
    RelativePositions,
    Routing,
    Segment,
    TextEmbedding,
    by_modality,
    each_modality,
    make_norm,
)


class StreamStates(NamedTuple):
    """Last hidden states of one stream.

    image_BND: (B, 1 + N, D), [CLS] first; None for a text stream.
    text_BLD:  (B, L, D), begin token first; None for a picture stream.
    """

    image_BND: Tensor | None
    text_BLD: Tensor | None


def cls_state(states_BLD: Tensor) -> Tensor:
    """The first state of each row (B, D), copied: a view would keep all states until the backward pass."""
    return states_BLD[:, 0].clone()


class LayerRouting(NamedTuple):
    """Where one sparse layer (block index `layer`) sent its (sub-)tokens."""

    layer: int
    routing: Routing


class EncoderOutput(NamedTuple):
    """What the encoder gives back.

    streams:   one entry a stream, in the order given.
    routing:   one entry a sparse layer.
    is_text_T: which of the flat tokens are text (the others are picture tokens).
    valid_T:   which are real tokens, not padding.
    """

    streams: tuple[StreamStates, ...]
    routing: tuple[LayerRouting, ...]
    is_text_T: Tensor
    valid_T: Tensor

    def routing_only(self) -> EncoderOutput:
        """Without the hidden states and out of the graph: what may outlive a training step."""
        return self._replace(streams=(), routing=tuple(LayerRouting(i, r.detach()) for i, r in self.routing))


class Encoder(nn.Module):
    """Encodes several streams in one pass.

    All tokens lie in one flat (T, D) tensor, so that every projection, FFN and expert dispatch runs once a layer
    for all streams; only attention is cut into streams and rows. A pair is one row [picture; text], as in BEiT-3
    (arXiv 2208.10442).

    Args:
        image: None: there are no pictures, as in a language model.
        final_norm: whether a norm stands behind the last block.
        relative_positions: addends to the scores of attention that all blocks share.
        norm: which one: LayerNorm or RMSNorm.
    """

    def __init__(
        self,
        image: ImageEmbedding | None,
        text: TextEmbedding,
        blocks: Sequence[Block],
        *,
        dim: int,
        norm_eps: float,
        multiway: bool = False,
        final_norm: bool = True,
        relative_positions: RelativePositions | None = None,
        norm: NormKind = "layer",
    ) -> None:
        super().__init__()
        self.image = image
        self.text = text
        self.relative_positions = relative_positions
        self.blocks = nn.ModuleList(blocks)
        self.norm: nn.Module = nn.Identity()
        if final_norm:
            self.norm = each_modality(lambda: make_norm(norm, dim, norm_eps), multiway)
        self.dim = dim

    def forward(self, *streams: ImageTextBatch) -> EncoderOutput:
        """Raises ValueError when no stream is given."""
        if not streams:
            raise ValueError("Encoder: no stream given; pass at least one ImageTextBatch")
        return self._encode([self._embed(stream) for stream in streams])

    def decode(self, stream: ImageTextBatch, cache: DecodingCache | None = None) -> tuple[EncoderOutput, DecodingCache]:
        """Encodes the first or the next tokens of rows whose texts are written from left to right, without encoding
        earlier ones again. The states are those of a pass over all of a row with causal_text.

        Routers that compare the tokens of a batch (expert choice, a capacity) see the new tokens only, so with them the
        states may differ.

        Args:
            stream: first texts, or pictures and the beginnings of their texts; then texts alone. Padding may lie
                anywhere in them.
            cache: what this method gave back for the tokens before; None: these are the first.

        Raises:
            ValueError: there are no texts, or not causal ones; pictures come after a beginning; the rows are not those
                of the cache.
        """
        if stream.texts is None or not stream.causal_text:
            raise ValueError("Encoder.decode: texts are written from left to right; give some, with causal_text=True")
        if cache is not None and (stream.images is not None or len(stream) != len(cache)):
            raise ValueError(
                f"Encoder.decode: {len(stream)} rows{' with pictures' if stream.images else ''} cannot go on from a "
                f"cache of {len(cache)} rows; give as many rows, of texts alone"
            )
        kept = [KeyValues() for _ in self.blocks] if cache is None else [layer.copy() for layer in cache.layers]
        embedded = self._embed(stream, cache)
        output = self._encode([embedded], kept)
        valid_BL, image_length = embedded.valid_BL, embedded.segment.image_length
        if cache is not None:
            valid_BL, image_length = torch.cat([cache.valid_BL, valid_BL], dim=1), cache.image_length
        return output, DecodingCache(layers=kept, valid_BL=valid_BL, image_length=image_length)

    def _encode(self, embedded: Sequence[_Embedded], kept: Sequence[KeyValues | None] | None = None) -> EncoderOutput:
        """kept: of each block, in which the keys and values of these tokens are put."""
        x_TD = torch.cat([part.states_BLD.flatten(0, 1) for part in embedded])
        valid_T = torch.cat([part.valid_BL.flatten() for part in embedded])
        is_text_T = torch.cat([part.is_text_BL.flatten() for part in embedded])
        segments = [part.segment for part in embedded]
        padded = any(segment.valid_BL is not None for segment in segments)

        bias_HNN = None if self.relative_positions is None else self.relative_positions()

        routings = []
        for index, (block, before) in enumerate(zip(self.blocks, kept or [None] * len(self.blocks), strict=True)):
            x_TD, routing = block(x_TD, segments, valid_T if padded else None, bias_HNN, before)
            if routing is not None:
                routings.append(LayerRouting(index, routing))
        x_TD = by_modality(self.norm, x_TD, segments)

        states = []
        flat = x_TD.split([segment.batch * segment.length for segment in segments])
        for part, rows_TD in zip(embedded, flat, strict=True):
            states_BLD = rows_TD.unflatten(0, (part.segment.batch, part.segment.length))
            cut = part.segment.image_length
            states.append(
                StreamStates(
                    states_BLD[:, :cut] if cut else None,
                    states_BLD[:, cut:] if cut < part.segment.length else None,
                )
            )
        return EncoderOutput(tuple(states), tuple(routings), is_text_T, valid_T)

    def _embed(self, stream: ImageTextBatch, cache: DecodingCache | None = None) -> _Embedded:
        states, valid, is_text = [], [], []
        image_length, past = 0, None
        if stream.images is not None:
            if self.image is None:
                raise ValueError("Encoder: a stream of pictures, but encoder.pictures=false; give texts only")
            image_BND = self.image(stream.images.pixels_BCHW, stream.images.masked_BN)
            image_length = image_BND.shape[1]
            states.append(image_BND)
            valid.append(torch.ones(image_BND.shape[:2], dtype=torch.bool, device=image_BND.device))
            is_text.append(torch.zeros_like(valid[-1]))
        if stream.texts is not None:
            if cache is not None:
                place_BL = (cache.texts_B.unsqueeze(1) + stream.texts.valid_BL.cumsum(1) - 1).clamp(min=0)
                past = Past(cache.valid_BL, cache.image_length, place_BL)
            states.append(self.text(stream.texts.ids_BL, stream.texts.masked_BL, past and past.place_BL))
            valid.append(stream.texts.valid_BL)
            is_text.append(torch.ones_like(valid[-1]))
        states_BLD = torch.cat(states, dim=1)
        valid_BL = torch.cat(valid, dim=1)
        batch, length = states_BLD.shape[:2]
        texts = stream.texts
        segment = Segment(
            batch,
            length,
            valid_BL if texts is not None else None,
            image_length,
            stream.causal_text,
            past=past,
            document_BL=None if texts is None else texts.document_BL,
        )
        return _Embedded(states_BLD, valid_BL, torch.cat(is_text, dim=1), segment)


class _Embedded(NamedTuple):
    states_BLD: Tensor
    valid_BL: Tensor
    is_text_BL: Tensor
    segment: Segment
