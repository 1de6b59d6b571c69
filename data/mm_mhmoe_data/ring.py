"""A loader of whole batches whose pixels reach the training process through memory that is used again and again.

A DataLoader allocates shared memory anew for every batch: the system clears its pages, maps them twice and takes them
back, which costs more than resizing the pictures. Here each worker keeps a few pieces and fills them in turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from mm_mhmoe_data.sampling import StepSampler

Empty = Callable[[Sequence[int], torch.dtype], Tensor]
"""Gives a tensor of a shape and type whose values do not matter."""


def fresh(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Ordinary memory."""
    return torch.empty(tuple(shape), dtype=dtype)


def step_loader(
    make_batch: Callable[[int, Empty], Any],
    steps: StepSampler,
    *,
    workers: int = 0,
    hold: int = 4,
    prefetch: int = 2,
    start_method: str | None = None,
) -> DataLoader:
    """Batches in the order of `steps`. An error in a worker ends the iteration with that error.

    With workers, tensors that make_batch takes from its second argument stay as they are only while `hold` further
    batches are asked for; then they are filled anew. Clone what has to live longer. What make_batch allocates itself
    is not concerned, and without workers, or where batches are pinned for a GPU, nothing is.

    Args:
        make_batch: (step, empty) to the batch of that step. Large tensors should come from `empty`.
        workers: processes that make batches ahead; 0 makes them when they are asked for.
        hold: further batches during which a batch stays as it is.
        prefetch: batches that each worker makes ahead.
        start_method: of workers: fork, spawn or forkserver; None is the system's. Other than fork, they need a
            make_batch that can be pickled.
    """
    # A worker is sent its next number when one of its batches is handed out, so `prefetch` of its batches are on the
    # way. Workers take turns: of `hold` further batches, at most hold // workers + 1 come from the same worker.
    slots = prefetch + (hold // workers + 1 if workers else 0)
    return _Loader(
        _Steps(make_batch, len(steps), slots),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        multiprocessing_context=start_method if workers else None,
        worker_init_fn=_one_thread if workers else None,
        pin_memory=torch.cuda.is_available(),
    )


class _Loader(DataLoader):
    """Raises what a worker found wrong with the data as it is; torch would wrap it in the worker's traceback."""

    def __iter__(self) -> Any:
        for batch in super().__iter__():
            if isinstance(batch, _Refused):
                raise batch.error
            yield batch


@dataclass(frozen=True)
class _Refused:
    error: ValueError


class _Steps(Dataset):
    """Item s is the batch of step s. Each worker has a copy of this, and so slots of its own."""

    def __init__(self, make_batch: Callable[[int, Empty], Any], count: int, slots: int) -> None:
        self.make_batch = make_batch
        self.count = count
        self.slots = _Slots(slots)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, step: int) -> Any:
        if get_worker_info() is None:
            return self.make_batch(step, fresh)
        self.slots.turn()
        try:
            return self.make_batch(step, self.slots.empty)
        except ValueError as error:
            return _Refused(error)


class _Slots:
    """Pieces of shared memory, one list for each of `count` batches; a piece grows when a batch needs more."""

    def __init__(self, count: int) -> None:
        self.slots: list[list[Tensor]] = [[] for _ in range(count)]
        self.current = -1
        self.used = 0

    def turn(self) -> None:
        """The next slot: what was handed out from it `count` turns ago may now be overwritten."""
        self.current = (self.current + 1) % len(self.slots)
        self.used = 0

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        pieces, size = self.slots[self.current], math.prod(shape) * dtype.itemsize
        if self.used == len(pieces):
            pieces.append(torch.empty(0, dtype=torch.uint8))
        if len(pieces[self.used]) < size:
            pieces[self.used] = torch.empty(size, dtype=torch.uint8).share_memory_()
        self.used += 1
        return pieces[self.used - 1][:size].view(dtype).view(tuple(shape))


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)
