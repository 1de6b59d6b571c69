"""What an encoder keeps of rows that are still being written: keys and values of every layer.

Legend: B rows, R rows of another choice, L tokens of a row so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mm_mhmoe.nn import KeyValues


@dataclass(frozen=True, kw_only=True)
class DecodingCache:
    """Rows whose next text tokens can be encoded without encoding the earlier ones again (`Encoder.decode`).

    A cache never changes: going on, choosing and shortening give new ones. Rows chosen several times share what the
    first call encoded.

    Args:
        layers: one entry a block.
        valid_BL: which tokens so far are real; the others are padding.
        image_length: how many of them are of a picture; they come first.
    """

    layers: Sequence[KeyValues]
    valid_BL: Tensor
    image_length: int

    def __len__(self) -> int:
        """Rows."""
        return len(self.valid_BL)

    @property
    def length(self) -> int:
        """Tokens of a row, those of its picture and padding included."""
        return self.valid_BL.shape[1]

    @property
    def texts_B(self) -> Tensor:
        """How many real text tokens each row has: the position of its next one."""
        return self.valid_BL[:, self.image_length :].sum(1)

    def rows(self, chosen_R: Tensor) -> DecodingCache:
        """These rows in this order, as when beams go on from others; a row may come several times."""
        layers = [layer.rows(chosen_R) for layer in self.layers]
        return DecodingCache(layers=layers, valid_BL=self.valid_BL[chosen_R], image_length=self.image_length)

    def without_last(self, count: int = 1) -> DecodingCache:
        """Without the last `count` tokens of each row, as when they were mask tokens that only asked what comes there.

        Raises ValueError when there are not so many text tokens."""
        kept = self.length - count
        if count < 0 or kept < self.image_length:
            raise ValueError(f"{count} tokens cannot be dropped: a row has {self.length - self.image_length} of text")
        layers = [layer.first(kept) for layer in self.layers]
        return DecodingCache(layers=layers, valid_BL=self.valid_BL[:, :kept], image_length=self.image_length)
