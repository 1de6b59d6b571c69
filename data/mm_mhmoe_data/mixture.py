"""Several sources in one sequence, each with its share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mm_mhmoe_data.sampling import Order, Pick, permutation

BLOCK = 10_000


class MixedOrder:
    """Takes from each source in proportion to its weight, and from each in its own order.

    Every block of 10,000 positions holds each source equally often (its share rounded to 1/10,000), in a random order
    of its own. So the shares are exact over any long stretch, and which sample stands at a position follows from the
    position alone. An epoch is one of a source: a small source of large weight begins anew sooner.

    Args:
        orders: of the sources.
        weights: positive, of any sum.
    """

    def __init__(self, orders: Sequence[Order], weights: Sequence[float], *, seed: int) -> None:
        if len(orders) != len(weights) or not orders:
            raise ValueError(f"{len(weights)} weights for {len(orders)} sources; give one weight for each")
        if not all(weight > 0 and np.isfinite(weight) for weight in weights):
            raise ValueError(f"weights={list(weights)} must be positive; leave out a source that is not wanted")
        self.orders = list(orders)
        self.seed = seed
        self.counts = _apportion(np.asarray(weights, np.float64))
        self._block = -1

    def __call__(self, position: int) -> Pick:
        block, place = divmod(position, BLOCK)
        if block != self._block:
            self._take(block)
        source = int(self._source[place])
        return self.orders[source](block * int(self.counts[source]) + int(self._rank[place]))

    def _take(self, block: int) -> None:
        labels = np.repeat(np.arange(len(self.counts)), self.counts)
        self._source = labels[permutation(BLOCK, self.seed, block).numpy()]
        self._rank = np.empty(BLOCK, np.int64)
        for source, count in enumerate(self.counts):
            self._rank[self._source == source] = np.arange(count)
        self._block = block


def _apportion(weights: np.ndarray) -> np.ndarray:
    """Places of a block for each weight: largest remainders, at least one each."""
    wanted = weights / weights.sum() * BLOCK
    counts = np.floor(wanted).astype(np.int64)
    counts[np.argsort(counts - wanted, kind="stable")[: BLOCK - counts.sum()]] += 1
    if counts.min() < 1:
        raise ValueError(
            f"weights={weights.tolist()}: the smallest is less than 1/{BLOCK} of all; raise it or leave its source out"
        )
    return counts


def token_weights(weights: Sequence[float], mean_tokens: Sequence[float]) -> list[float]:
    """Weights by samples that give sources these shares of all tokens."""
    return [weight / tokens for weight, tokens in zip(weights, mean_tokens, strict=True)]
