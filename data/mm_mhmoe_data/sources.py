"""From what a user names as shards to a set of samples and the order they come in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from lightning.pytorch.utilities import rank_zero_only

from mm_mhmoe_data.arrived import Arrived
from mm_mhmoe_data.config import DataConfig
from mm_mhmoe_data.mixture import MixedOrder, token_weights
from mm_mhmoe_data.pipeline import Parts, ShardDataset
from mm_mhmoe_data.quarantine import Quarantine
from mm_mhmoe_data.sampling import Order, ShuffledOrder
from mm_mhmoe_data.shards import Source, expand_shards, expand_sources
from mm_mhmoe_data.shards.remote import is_remote

_MEASURED = 256
_NEXT_SEED = 999_983

TokensOf = Callable[[ShardDataset, int], int]


def read_exclusions(path: str) -> dict[str, set[str]]:
    """Keys by shard, of a file with a line "SHARD<tab>KEY" for each sample. Raises ValueError for other lines."""
    if not Path(path).is_file():
        raise ValueError(f"data.exclude={path} is no file; `mm-mhmoe data overlap --exclude FILE` writes one")
    found: dict[str, set[str]] = defaultdict(set)
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            shard, tab, key = line.rstrip("\n").partition("\t")
            if not (shard and tab and key):
                raise ValueError(f"{path}, line {number}: {line.strip()[:80]!r} is not a shard, a tab and a key")
            found[shard if is_remote(shard) else str(Path(shard).resolve())].add(key)
    return dict(found)


@rank_zero_only
def _say(line: str) -> None:
    print(line)


class Drawn(NamedTuple):
    """The samples of a stream, and the order they are drawn in."""

    dataset: ShardDataset
    order: Order


class Streams:
    """Opens the sets of a run's streams; streams of the same shards share one where they can.

    Args:
        shards: of pairs, and of every stream that has none of its own.

    Raises:
        ValueError: data.exclude names none of the shards.
    """

    def __init__(self, shards: str, data: DataConfig) -> None:
        self.shards = shards
        self.data = data
        self.exclude = read_exclusions(data.exclude) if data.exclude else {}
        if self.exclude:
            self._check_exclusions()
        self._opened: list[tuple[str, Parts, ShardDataset]] = []

    def open(self, parts: Parts, *, seed: int, tokens: TokensOf | None = None) -> Drawn:
        """The stream of these parts.

        Args:
            tokens: how many tokens a sample has, for weights that are shares of tokens.
        """
        if self.data.mode == "stream":
            raise ValueError("data.mode=stream is for pretraining only; use indexed, which also reads remote shards")
        shards, weights = self._named(parts)
        # Without weights, what :: joins is one source: then every sample comes once an epoch.
        sources = expand_sources(shards, weights) if weights else [Source(shards=tuple(expand_shards(shards)))]
        dataset = self._dataset(shards, sources, parts)
        orders: list[Order] = []
        means: list[float] = []
        shard, first = 0, 0
        for number, source in enumerate(sources):
            counts = dataset.counts[shard : shard + len(source.shards)]
            if not sum(counts):
                raise ValueError(f"source {number + 1} of {shards!r} has no samples of the kind: {parts}")
            order = ShuffledOrder(counts, seed=seed + number * _NEXT_SEED, first=first, window=self.data.window)
            if tokens is not None and self.data.mix_by == "tokens" and len(sources) > 1:
                places = np.unique(np.linspace(0, sum(counts) - 1, _MEASURED).astype(int))
                means.append(float(np.mean([tokens(dataset, first + int(place)) for place in places])))
            orders.append(order)
            shard, first = shard + len(source.shards), first + sum(counts)
        if len(orders) == 1:
            return Drawn(dataset, orders[0])
        shares = [source.weight for source in sources]
        return Drawn(dataset, MixedOrder(orders, token_weights(shares, means) if means else shares, seed=seed))

    def streamed(self, parts: Parts, *, seed: int, quarantine: Quarantine) -> Arrived:
        """The stream of these parts, read from the beginning of its shards."""
        shards, _ = self._named(parts)
        data = self.data
        return Arrived(shards, parts, seed=seed, buffer=data.buffer, allow_pipe=data.allow_pipe, quarantine=quarantine)

    def _check_exclusions(self) -> None:
        named = filter(None, (self.shards, self.data.image_shards, self.data.text_shards))
        places = {shard.place for shards in named for shard in expand_shards(shards)}
        if not places & self.exclude.keys():
            raise ValueError(
                f"data.exclude={self.data.exclude} names none of this run's shards, so it would leave nothing out; it "
                f"begins with {next(iter(self.exclude))}. Have the list written for these shards (mm-mhmoe data "
                "overlap), or put their paths into it"
            )

    def _named(self, parts: Parts) -> tuple[str, str | None]:
        own = {
            "images": (self.data.image_shards, self.data.image_weights),
            "texts": (self.data.text_shards, self.data.text_weights),
        }.get(parts)
        if own is not None and own[0] is not None:
            return own[0], own[1]
        return self.shards, self.data.weights

    def _dataset(self, shards: str, sources: list[Source], parts: Parts) -> ShardDataset:
        for named, has, dataset in self._opened:
            if named == shards and (has == parts or (has == "pairs" and not dataset.left_out)):
                return dataset
        dataset = ShardDataset([shard for source in sources for shard in source.shards], parts, self.exclude)
        if dataset.left_out:
            total = dataset.left_out + dataset.excluded + len(dataset)
            _say(
                f"data: {dataset.left_out:,} of {total:,} samples in {shards} are no {parts} "
                "(a picture, or a text that is not empty, is missing) and are left out"
            )
        if self.exclude:
            _say(f"data: {dataset.excluded:,} {parts} in {shards} are left out because {self.data.exclude} names them")
        self._opened.append((shards, parts, dataset))
        return dataset
