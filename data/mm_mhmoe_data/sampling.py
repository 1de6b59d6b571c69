"""The order of samples: a pure function of (seed, epoch), cut into steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

WINDOW = 65536


class Pick(NamedTuple):
    """A sample and how often it came before."""

    epoch: int
    sample: int


class Order(Protocol):
    """The sample at every position of an endless sequence."""

    def __call__(self, position: int) -> Pick: ...


def permutation(count: int, *state: int) -> Tensor:
    """The same for the same state, on every rank, in every run."""
    number = state[0]
    for part in state[1:]:
        number = number * 1_000_003 + part
    return torch.randperm(count, generator=torch.Generator().manual_seed(number % (1 << 63)))


class ShuffledOrder:
    """Epoch after epoch, each in an order of its own, found without making the whole of it.

    The shards are put in a random order; what lies in a window of that sequence is shuffled. So samples that are read
    at about the same time come from a few shards, each of which is read once an epoch. A set that fits into one window
    is shuffled as a whole.

    Args:
        counts: samples of each shard; sample numbers run through the shards.
        first: number of the first sample.
        window: samples that are shuffled together.
    """

    def __init__(self, counts: Sequence[int], *, seed: int, first: int = 0, window: int = WINDOW) -> None:
        if window < 1:
            raise ValueError(f"window={window} must be 1 or more; 1 leaves samples in the order of their shards")
        self.counts = np.asarray(counts, np.int64)
        self.starts = np.cumsum(self.counts) - self.counts
        self.num_samples = int(self.counts.sum())
        if self.num_samples < 1:
            raise ValueError("there are no samples to draw from; check the shards")
        self.seed = seed
        self.first = first
        self.window = window
        self._epoch = self._window = -1
        self._shards: NDArray[np.int64] = np.empty(0, np.int64)
        self._ends: NDArray[np.int64] = np.empty(0, np.int64)
        self._within = torch.empty(0)

    def __call__(self, position: int) -> Pick:
        epoch, place = divmod(position, self.num_samples)
        if self.num_samples <= self.window:
            self._take(epoch, 0)
            return Pick(epoch, self.first + int(self._within[place]))
        window, place = divmod(place, self.window)
        self._take(epoch, window)
        place = window * self.window + int(self._within[place])
        turn = int(np.searchsorted(self._ends, place, side="right"))
        shard = self._shards[turn]
        return Pick(epoch, self.first + int(self.starts[shard] + self.counts[shard] + place - self._ends[turn]))

    def _take(self, epoch: int, window: int) -> None:
        if (epoch, window) == (self._epoch, self._window):
            return
        if self.num_samples <= self.window:
            self._within = permutation(self.num_samples, self.seed, epoch)
        else:
            if epoch != self._epoch:
                self._shards = permutation(len(self.counts), self.seed, epoch).numpy()
                self._ends = np.cumsum(self.counts[self._shards])
            size = min(self.window, self.num_samples - window * self.window)
            self._within = permutation(size, self.seed, epoch, 1 + window)
        self._epoch, self._window = epoch, window


class StepOrder:
    """Which samples a step takes.

    Step s takes the positions s B ... (s + 1) B of the order, of which this rank takes every world_size-th. So neither
    the number of ranks nor where a run was resumed changes what comes.

    Args:
        batch_size: samples of a step, over all ranks; a multiple of world_size.
    """

    def __init__(self, order: Order, batch_size: int, *, rank: int = 0, world_size: int = 1) -> None:
        if batch_size < 1 or batch_size % world_size:
            raise ValueError(f"batch_size={batch_size} must be a positive multiple of the {world_size} processes")
        self.order = order
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size

    def __call__(self, step: int) -> list[Pick]:
        """Those of the step that are this rank's."""
        first = step * self.batch_size
        return [self.order(p) for p in range(first + self.rank, first + self.batch_size, self.world_size)]


class StepSampler:
    """The numbers of the steps from `start` on, for a DataLoader.

    `len()` is that of the whole run, also after a resume: Lightning compares it with the step's absolute number.
    """

    def __init__(self, start: int, num_steps: int) -> None:
        self.start = start
        self.num_steps = num_steps

    def __len__(self) -> int:
        return self.num_steps

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.num_steps))
