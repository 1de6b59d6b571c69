"""Perceptual fingerprints: what makes two pictures the same drawing.

Three parts, all computed from the picture that ships, so that anyone can recompute them from the shards: a
64-bit DCT hash and a 64-bit difference hash of the brightness find candidates, and a 16 x 16 colour thumbnail
decides. Hashes alone call every flag on white the same flag, the thumbnail alone all pale drawings the same.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_DCT_SIDE = 32
_THUMB_SIDE = 16
_INK = 24  # how far from white a cell must be to belong to the drawing
_CHANGED = 40  # how far apart two cells must be to count as different


@dataclass(frozen=True, kw_only=True)
class Fingerprints:
    """Fingerprints of N pictures: `phash` and `dhash` (N,) uint64, `thumb` (N, 256, 3) int16 in 0..255."""

    phash: NDArray[np.uint64]
    dhash: NDArray[np.uint64]
    thumb: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.phash)


@dataclass(frozen=True, kw_only=True)
class TwinRule:
    """Two pictures match when both hashes differ in at most so many bits and at most the share `changed` of
    the drawn cells differs in colour."""

    phash_bits: int
    dhash_bits: int
    changed: float


# chosen by eye on sheets of pairs near the thresholds: no pair within SAME_PICTURE differed visibly; pairs
# within TWIN are one drawing with another emblem, numeral or shade, and just above it they are not
SAME_PICTURE = TwinRule(phash_bits=5, dhash_bits=6, changed=0.012)
TWIN = TwinRule(phash_bits=12, dhash_bits=14, changed=0.10)

Fingerprint = tuple[int, int, NDArray[np.int16]]


def fingerprint(content: bytes) -> Fingerprint:
    """(phash, dhash, colour thumbnail) of an encoded picture."""
    with Image.open(io.BytesIO(content), formats=["JPEG", "PNG", "WEBP"]) as image:
        return fingerprint_of(image.convert("RGB"))


def fingerprint_of(rgb: Image.Image) -> Fingerprint:
    """(phash, dhash, colour thumbnail) of an RGB picture."""
    grey = rgb.convert("L")
    pixels = np.asarray(grey.resize((_DCT_SIDE, _DCT_SIDE), Image.Resampling.BOX), dtype=np.float64)
    basis = _dct_basis()
    low = (basis @ pixels @ basis.T)[:8, :8].ravel()
    low[0] = 0.0  # the mean brightness says nothing about structure
    # rounding keeps the bits equal on machines whose matrix products differ in the last place
    low = low.round(3)
    phash = _pack(low > np.median(low[1:]))
    gradient = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    # a dead zone of two grey levels keeps compression noise on flat areas from flipping bits
    dhash = _pack((gradient[:, 1:] > gradient[:, :-1] + 2).ravel())
    thumb = np.asarray(rgb.resize((_THUMB_SIDE, _THUMB_SIDE), Image.Resampling.BOX), dtype=np.int16)
    return phash, dhash, thumb.reshape(-1, 3)


def stack(parts: list[Fingerprint]) -> Fingerprints:
    """Many single fingerprints as arrays."""
    return Fingerprints(
        phash=np.array([p for p, _, _ in parts], dtype=np.uint64),
        dhash=np.array([d for _, d, _ in parts], dtype=np.uint64),
        thumb=np.stack([t for _, _, t in parts]) if parts else np.zeros((0, _THUMB_SIDE**2, 3), np.int16),
    )


def twin_pairs(left: Fingerprints, right: Fingerprints, rule: TwinRule) -> list[tuple[int, int]]:
    """Every (i, j) with left[i] and right[j] matching under `rule`, by brute force over all pairs."""
    pairs: list[tuple[int, int]] = []
    for i in range(len(left)):
        near = _bits(right.phash ^ left.phash[i]) <= rule.phash_bits
        near &= _bits(right.dhash ^ left.dhash[i]) <= rule.dhash_bits
        candidates = np.flatnonzero(near)
        if len(candidates):
            share = changed_share(left.thumb[i], right.thumb[candidates])
            pairs.extend((i, int(j)) for j in candidates[share <= rule.changed])
    return pairs


def changed_share(one: NDArray[np.int16], many: NDArray[np.int16]) -> NDArray[np.float64]:
    """The share of drawn cells that differ in colour: one thumbnail (256, 3) against many (N, 256, 3)."""
    drawn = ((255 - one.min(axis=-1)) > _INK)[None] | ((255 - many.min(axis=-1)) > _INK)
    differ = np.abs(many - one[None]).max(axis=-1) > _CHANGED
    share: NDArray[np.float64] = (drawn & differ).sum(axis=1) / np.maximum(drawn.sum(axis=1), 8)
    return share


def _bits(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    octets = np.ascontiguousarray(words).view(np.uint8).reshape(-1, 8)
    return _POPCOUNT[octets].sum(axis=1)


_POPCOUNT = np.array([bin(value).count("1") for value in range(256)], dtype=np.int64)


def _pack(bits: NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _dct_basis() -> NDArray[np.float64]:
    k = np.arange(_DCT_SIDE)[:, None]
    n = np.arange(_DCT_SIDE)[None, :]
    basis: NDArray[np.float64] = np.cos(np.pi * (2 * n + 1) * k / (2 * _DCT_SIDE))
    return basis
