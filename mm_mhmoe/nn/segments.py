"""Several streams in one flat list of tokens, and its parts by modality. Legend: T tokens, B batch, L length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Segment(NamedTuple):
    """One stream inside the flat tokens: `batch` rows of `length` tokens.

    valid_BL:     True at real tokens, False at padding; None: there is no padding.
    image_length: how many tokens a row begins with are of a picture; the others are of a text. Multiway and causal_text
        ask.
    causal_text:  whether a text token sees the picture and the texts before it only, and a picture only itself.
    past:         earlier tokens of the same rows, whose keys and values are kept; None: these are all.
    document_BL:  number of the document that each token belongs to, of which it sees no other; None: no bounds.
    """

    batch: int
    length: int
    valid_BL: Tensor | None
    image_length: int = 0
    causal_text: bool = False
    past: Past | None = None
    document_BL: Tensor | None = None

    @property
    def is_pair(self) -> bool:
        """Whether its rows have both a picture and a text."""
        before = self.past is not None and self.past.image_length > 0
        return before or 0 < self.image_length < self.length


class Past(NamedTuple):
    """What comes before the tokens of a segment in its rows.

    valid_BP:     which of the earlier tokens are real, P of them a row.
    image_length: how many of them are of a picture.
    place_BL:     positions that the texts of the segment go on at.
    """

    valid_BP: Tensor
    image_length: int
    place_BL: Tensor


def causal_text_mask(segment: Segment, device: torch.device) -> Tensor:
    """(L, L), True where the token of a row may see that of a column, by the rule of `causal_text`."""
    place_L = torch.arange(segment.length, device=device)
    return (place_L < segment.image_length) | (place_L <= place_L.unsqueeze(1))


def split_modalities(x_TD: Tensor, segments: Sequence[Segment], *, pairs_apart: bool = False) -> tuple[Tensor, ...]:
    """The tokens of pictures and those of texts, each in the order of the flat list; with pairs_apart also those of
    pairs, which are then in neither of the two.

    A stream of one modality is a slice; only pairs, whose rows have both, are copied.
    """
    images, texts, pairs = [x_TD[:0]], [x_TD[:0]], [x_TD[:0]]
    for part_TD, segment in zip(x_TD.split([s.batch * s.length for s in segments]), segments, strict=True):
        if pairs_apart and segment.is_pair:
            pairs.append(part_TD)
            continue
        if segment.image_length in (0, segment.length):
            (images if segment.image_length else texts).append(part_TD)
            continue
        rows_BLD = part_TD.unflatten(0, (segment.batch, segment.length))
        image_BLD, text_BLD = rows_BLD.split([segment.image_length, segment.length - segment.image_length], dim=1)
        images.append(image_BLD.flatten(0, 1))
        texts.append(text_BLD.flatten(0, 1))
    return tuple(_joined(way) for way in ((images, texts, pairs) if pairs_apart else (images, texts)))


def join_modalities(
    image_TD: Tensor, text_TD: Tensor, segments: Sequence[Segment], pair_TD: Tensor | None = None
) -> Tensor:
    """The inverse of `split_modalities`, for tensors of any width and number of axes behind the tokens."""
    ways = [image_TD, text_TD] if pair_TD is None else [image_TD, text_TD, pair_TD]
    taken = [0] * len(ways)

    def take(way: int, size: int) -> Tensor:
        taken[way] += size
        return ways[way].narrow(0, taken[way] - size, size)

    parts = []
    for segment in segments:
        rows, cut = segment.batch, segment.image_length
        if pair_TD is not None and segment.is_pair:
            parts.append(take(2, rows * segment.length))
        elif cut in (0, segment.length):
            parts.append(take(0 if cut else 1, rows * segment.length))
        else:
            image, text = take(0, rows * cut), take(1, rows * (segment.length - cut))
            both = [image.unflatten(0, (rows, -1)), text.unflatten(0, (rows, -1))]
            parts.append(torch.cat(both, dim=1).flatten(0, 1))
    return torch.cat(parts)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Without a copy where only one part has rows."""
    filled = [part for part in parts if len(part)]
    return torch.cat(filled) if len(filled) > 1 else (filled or parts)[0]
