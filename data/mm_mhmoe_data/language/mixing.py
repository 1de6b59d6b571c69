"""How much of a run each language gets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def language_shares(tokens: Sequence[int], exponent: float) -> list[float]:
    """p^exponent, normalised, of languages with these numbers of tokens, where p is their share of all (arXiv
    1901.07291, section 3.1): 1 samples as there is, 0 all languages alike.

    Raises:
        ValueError: the exponent does not lie between 0 and 1.
    """
    if not 0 <= exponent <= 1:
        raise ValueError(f"language_exponent={exponent} must lie between 0 (all alike) and 1 (as there is)")
    share = np.asarray(tokens, np.float64) / sum(tokens)
    smoothed = share**exponent
    return (smoothed / smoothed.sum()).tolist()
