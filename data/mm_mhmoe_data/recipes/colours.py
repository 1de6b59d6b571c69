"""The main colour of a drawing on white, from its pixels."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# hue in degrees up to which a colour name holds; red begins again at 345
_HUES = (
    (14, "red"),
    (43, "orange"),
    (68, "yellow"),
    (165, "green"),
    (255, "blue"),
    (292, "purple"),
    (345, "pink"),
)


def colour_shares(content: bytes) -> list[tuple[str, float]]:
    """The share of each colour name among the drawn pixels, largest first; empty for hardly any pixels.

    White is background and never counted. Thin dark lines around coloured areas count as outline: black and
    gray take part only where less than a quarter of the drawing is coloured.
    """
    with Image.open(io.BytesIO(content), formats=["JPEG", "PNG", "WEBP"]) as image:
        hsv = np.asarray(image.convert("HSV"), dtype=np.float32).reshape(-1, 3)
    hue, saturation, value = (
        hsv[:, 0] * np.float32(360 / 255),
        hsv[:, 1] / np.float32(255),
        hsv[:, 2] / np.float32(255),
    )
    drawn = (saturation > 0.12) | (value < 0.88)
    if drawn.mean() < 0.03:
        return []
    coloured = drawn & (saturation > 0.30) & (value > 0.22)
    counts: dict[str, float] = {}
    if coloured.sum() >= 0.25 * drawn.sum():
        names = _name_hues(hue[coloured], saturation[coloured], value[coloured])
        for name in np.unique(names):
            counts[str(name)] = float((names == name).sum())
    else:
        neutral = drawn & ~coloured & (saturation < 0.25)
        counts["black"] = float((neutral & (value < 0.30)).sum())
        counts["gray"] = float((neutral & (value >= 0.30)).sum())
        counts["other"] = float((drawn & ~neutral).sum())
    total = sum(counts.values())
    return sorted(((name, count / total) for name, count in counts.items()), key=lambda pair: (-pair[1], pair[0]))


def main_colour(content: bytes) -> tuple[str, str, float] | None:
    """(first, second, share of the first) when one colour clearly leads, else None. `second` may be empty."""
    shares = [pair for pair in colour_shares(content) if pair[0] != "other"]
    if not shares or shares[0][1] < 0.6:
        return None
    second = shares[1] if len(shares) > 1 else ("", 0.0)
    if second[1] > 0.3:
        return None
    return shares[0][0], second[0], shares[0][1]


def _name_hues(
    hue: NDArray[np.floating], saturation: NDArray[np.floating], value: NDArray[np.floating]
) -> NDArray[np.str_]:
    names = np.full(hue.shape, "red", dtype="<U6")
    low = 0.0
    for high, name in _HUES:
        names[(hue >= low) & (hue < high)] = name
        low = high
    names[hue >= 345] = "red"
    warm = (hue < 50) | (hue >= 345)
    # brown is dark orange, pink is pale red
    names[(hue >= 8) & (hue < 50) & (value < 0.68) & (saturation > 0.25)] = "brown"
    names[warm & ((hue < 12) | (hue >= 335)) & (saturation < 0.5) & (value > 0.75)] = "pink"
    return names
