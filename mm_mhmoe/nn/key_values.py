"""What one attention layer keeps of tokens so that later ones can still see them.

Legend: B batch, H heads, L tokens so far, N new tokens, d head dim.
"""

from __future__ import annotations

import torch
from torch import Tensor


class KeyValues:
    """Keys and values of the tokens of one layer so far, both (B, H, L, d); None before the first."""

    def __init__(self, key_BHLd: Tensor | None = None, value_BHLd: Tensor | None = None) -> None:
        self.key_BHLd = key_BHLd
        self.value_BHLd = value_BHLd

    def append(self, key_BHNd: Tensor, value_BHNd: Tensor) -> tuple[Tensor, Tensor]:
        """Takes those of new tokens, and returns those of all."""
        if self.key_BHLd is not None and self.value_BHLd is not None:
            key_BHNd = torch.cat([self.key_BHLd, key_BHNd], dim=2)
            value_BHNd = torch.cat([self.value_BHLd, value_BHNd], dim=2)
        self.key_BHLd, self.value_BHLd = key_BHNd, value_BHNd
        return key_BHNd, value_BHNd

    def rows(self, chosen_R: Tensor) -> KeyValues:
        """Of these rows, in this order; a row may come several times."""
        assert self.key_BHLd is not None and self.value_BHLd is not None
        return KeyValues(self.key_BHLd.index_select(0, chosen_R), self.value_BHLd.index_select(0, chosen_R))

    def first(self, length: int) -> KeyValues:
        """Of the first so many tokens."""
        assert self.key_BHLd is not None and self.value_BHLd is not None
        return KeyValues(self.key_BHLd[:, :, :length], self.value_BHLd[:, :, :length])

    def copy(self) -> KeyValues:
        """One that can be appended to while this stays as it is. Shares its tensors, which are never written to."""
        return KeyValues(self.key_BHLd, self.value_BHLd)
