"""Splits that need no list: a name alone, with a seed, says where it goes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

SPLITS = ("train", "val", "test")


def check_shares(val: float, test: float) -> None:
    """Raises `ValueError` unless both are shares that leave something to train on."""
    for name, share in (("val", val), ("test", test)):
        if not 0 <= share < 1:
            raise ValueError(f"{name}={share} must be a share from 0 to below 1.")
    if val + test >= 1:
        raise ValueError(f"val={val} and test={test} leave nothing to train on; their sum must be below 1.")


def split_of(name: str, *, seed: int, val: float, test: float) -> str:
    """The split of what is called `name`, whatever else the source holds; about `val` and `test` go there."""
    place = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "big") / 2**64
    if place < test:
        return "test"
    return "val" if place < test + val else "train"


def in_hashed_order(names: Sequence[str], seed: int) -> list[int]:
    """Indices of `names`, shuffled by hash: the order of any two does not depend on the others."""
    return sorted(
        range(len(names)), key=lambda i: (hashlib.sha256(f"order {seed} {names[i]}".encode()).digest(), names[i])
    )
