"""The only types that data and model share.

Shapes: B batch, C channels or classes, L text length, N patches, A answers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor

_T = TypeVar("_T")


def _move(value: Any, device: torch.device | str, non_blocking: bool) -> Any:
    return value.to(device, non_blocking=non_blocking) if hasattr(value, "to") else value


class _Movable:
    """`.to(device)` and `.pin_memory()` for a dataclass of tensors, as Lightning and DataLoader expect."""

    def to(self: _T, device: torch.device | str, non_blocking: bool = False) -> _T:
        values = {f.name: _move(getattr(self, f.name), device, non_blocking) for f in fields(self)}  # type: ignore[arg-type]
        return type(self)(**values)

    def pin_memory(self: _T) -> _T:
        values = {}
        for f in fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            values[f.name] = value.pin_memory() if hasattr(value, "pin_memory") else value
        return type(self)(**values)


@dataclass(frozen=True, kw_only=True)
class Images(_Movable):
    """Pictures of one stream.

    pixels_BCHW: uint8 in 0..255, or floats that are already scaled to [-1, 1].
    masked_BN:   True where a patch is hidden from the encoder (row-major over the patch grid); None: none is.
    codes_BN:    int64 codes of the patches, computed before; None: who needs them computes them.
    """

    pixels_BCHW: Tensor
    masked_BN: Tensor | None = None
    codes_BN: Tensor | None = None

    def __len__(self) -> int:
        return self.pixels_BCHW.shape[0]


@dataclass(frozen=True, kw_only=True)
class Texts(_Movable):
    """Texts of one stream, padded at the end.

    ids_BL:    int64 token ids, never masked themselves (they are the targets); starts with the begin token.
    valid_BL:  True at real tokens (special tokens included), False at padding.
    masked_BL: True where a token is hidden from the encoder; None: none is.
    document_BL: int64 number of each token's document where a row has several and a token sees its own only; None: it
        sees all of its row.
    """

    ids_BL: Tensor
    valid_BL: Tensor
    masked_BL: Tensor | None = None
    document_BL: Tensor | None = None

    def __len__(self) -> int:
        return self.ids_BL.shape[0]


@dataclass(frozen=True, kw_only=True)
class ImageTextBatch(_Movable):
    """One stream: pictures, texts, or pairs (row i of both belongs together). At least one part is there.

    keys:        the sample keys of the rows, for logs and records.
    causal_text: whether a text token sees the picture and the texts before it only, as captions are written.
    """

    images: Images | None = None
    texts: Texts | None = None
    keys: tuple[str, ...] = ()
    causal_text: bool = False

    def __post_init__(self) -> None:
        if self.images is None and self.texts is None:
            raise ValueError("ImageTextBatch: images and texts are both None; give at least one of them")
        if self.images is not None and self.texts is not None and len(self.images) != len(self.texts):
            raise ValueError(
                f"ImageTextBatch: {len(self.images)} images but {len(self.texts)} texts; "
                "a pair stream needs one text an image"
            )

    def __len__(self) -> int:
        part = self.images if self.images is not None else self.texts
        assert part is not None
        return len(part)


@dataclass(frozen=True, kw_only=True)
class PretrainBatch(_Movable):
    """One step's streams, each masked by its own rule. A stream that the run does not use is None."""

    images: ImageTextBatch | None = None
    texts: ImageTextBatch | None = None
    pairs: ImageTextBatch | None = None


@dataclass(frozen=True, kw_only=True)
class VQABatch(_Movable):
    """Pairs (picture, question) with answers.

    targets_BA:   soft target of every answer of the vocabulary, in [0, 1].
    question_ids: VQAv2 question ids of the rows.
    """

    pairs: ImageTextBatch
    targets_BA: Tensor
    question_ids: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NLVR2Batch(_Movable):
    """Sentences about two pictures.

    left, right: the pictures, each paired with the sentence, in the same order.
    labels_B:    int64, 1 where the sentence is true, 0 where it is false.
    identifiers: of the statements.
    """

    left: ImageTextBatch
    right: ImageTextBatch
    labels_B: Tensor
    identifiers: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LabelledBatch(_Movable):
    """Pictures with a class each.

    images:   a stream of pictures.
    labels_B: int64, numbers of the classes.
    """

    images: ImageTextBatch
    labels_B: Tensor
