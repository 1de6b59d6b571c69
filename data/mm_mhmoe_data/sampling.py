"""The order of samples: a pure function of (seed, epoch), cut into steps."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def epoch_order(num_samples: int, seed: int, epoch: int) -> Tensor:
    """The permutation of one epoch: the same on every rank, in every run."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(num_samples, generator=generator)


class StepOrder:
    """Which samples a step takes.

    The epochs' orders follow each other without a gap; step s takes the global positions s B ... (s + 1) B, of which
    this rank takes every world_size-th. So the order of samples depends neither on the number of ranks nor on where a
    run was resumed.

    Args:
        num_samples: size of the set.
        batch_size: samples of a step, over all ranks; a multiple of world_size.
        seed: of the order.
    """

    def __init__(self, num_samples: int, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> None:
        if num_samples < 1:
            raise ValueError("there are no samples to draw from; check the shards")
        if batch_size < 1 or batch_size % world_size:
            raise ValueError(f"batch_size={batch_size} must be a positive multiple of the {world_size} processes")
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self._epoch, self._order = -1, torch.empty(0)

    def __call__(self, step: int) -> list[tuple[int, int]]:
        """(epoch, index) of each sample of the step that is this rank's."""
        first = step * self.batch_size
        return [self._at(p) for p in range(first + self.rank, first + self.batch_size, self.world_size)]

    def _at(self, position: int) -> tuple[int, int]:
        epoch = position // self.num_samples
        if epoch != self._epoch:
            self._epoch, self._order = epoch, epoch_order(self.num_samples, self.seed, epoch)
        return epoch, int(self._order[position % self.num_samples])


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
