"""Splits that need no list: a name alone, with a seed, says where it goes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Splitting:
    """Shares for val and test; the rest is train. Raises `ValueError` unless something is left to train on."""

    seed: int
    val: float
    test: float

    def __post_init__(self) -> None:
        for name, share in (("val", self.val), ("test", self.test)):
            if not 0 <= share < 1:
                raise ValueError(f"{name}={share} must be a share from 0 to below 1.")
        if self.val + self.test >= 1:
            raise ValueError(f"val={self.val} and test={self.test} leave nothing to train on; keep their sum below 1.")

    def of(self, name: str) -> str:
        """The split of what is called `name`, whatever else the source holds."""
        place = int.from_bytes(_digest(f"{self.seed} {name}")[:8], "big") / 2**64
        if place < self.test:
            return "test"
        return "val" if place < self.test + self.val else "train"


def in_hashed_order(names: Sequence[str], seed: int) -> list[int]:
    """Indices of `names`, shuffled by hash: the order of any two does not depend on the others."""
    return sorted(range(len(names)), key=lambda i: (_digest(f"order {seed} {names[i]}"), names[i]))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
