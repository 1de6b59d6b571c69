"""What one attention layer keeps of tokens so that later ones can still see them.

Legend: B rows of the beginning, R rows, H heads, P tokens of the beginning, L all tokens, N new ones, d head dim.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class _Beginning:
    """Keys and values of the first tokens, both (B, H, P, d). from_R: which row of them each row has; None: its own.

    Rows that were chosen several times, as the beams of a picture, share them: they are the large part."""

    key_BHPd: Tensor
    value_BHPd: Tensor
    from_R: Tensor | None = None

    def all_rows(self) -> tuple[Tensor, Tensor]:
        if self.from_R is None:
            return self.key_BHPd, self.value_BHPd
        return self.key_BHPd.index_select(0, self.from_R), self.value_BHPd.index_select(0, self.from_R)


class KeyValues:
    """Keys and values of the tokens of one layer so far: those of the first call, and those that came later.

    Its tensors are never written to, so copies share them.
    """

    def __init__(self, begin: _Beginning | None = None, later: tuple[Tensor, Tensor] | None = None) -> None:
        self._begin = begin
        self._later = later

    def append(self, key_RHNd: Tensor, value_RHNd: Tensor) -> tuple[Tensor, Tensor]:
        """Takes those of new tokens, and returns those of all: (R, H, L, d) each."""
        if self._begin is None:
            self._begin = _Beginning(key_RHNd, value_RHNd)
            return key_RHNd, value_RHNd
        if self._later is not None:
            key_RHNd, value_RHNd = torch.cat([self._later[0], key_RHNd], 2), torch.cat([self._later[1], value_RHNd], 2)
        self._later = (key_RHNd, value_RHNd)
        key_RHPd, value_RHPd = self._begin.all_rows()
        return torch.cat([key_RHPd, key_RHNd], dim=2), torch.cat([value_RHPd, value_RHNd], dim=2)

    def rows(self, chosen_R: Tensor) -> KeyValues:
        """Of these rows, in this order; a row may come several times."""
        begin, later = self._begin, self._later
        if begin is not None:
            begin = replace(begin, from_R=chosen_R if begin.from_R is None else begin.from_R[chosen_R])
        if later is not None:
            later = (later[0].index_select(0, chosen_R), later[1].index_select(0, chosen_R))
        return KeyValues(begin, later)

    def first(self, length: int) -> KeyValues:
        """Of the first `length` tokens."""
        begin, later = self._begin, self._later
        assert begin is not None
        before = begin.key_BHPd.shape[2]
        if length <= before:
            return KeyValues(
                replace(begin, key_BHPd=begin.key_BHPd[:, :, :length], value_BHPd=begin.value_BHPd[:, :, :length])
            )
        assert later is not None
        return KeyValues(begin, (later[0][:, :, : length - before], later[1][:, :, : length - before]))

    def copy(self) -> KeyValues:
        """One that can be appended to while this stays as it is."""
        return KeyValues(self._begin, self._later)
