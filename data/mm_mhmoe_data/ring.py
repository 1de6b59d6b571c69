"""A loader of whole batches whose pixels reach the training process through memory that is used again and again.

A DataLoader allocates shared memory anew for every batch: the system clears its pages, maps them twice and takes them
back, which costs more than resizing the pictures. Here each worker keeps a few pieces and fills them in turn.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from mm_mhmoe_data.sampling import StepSampler
from mm_mhmoe_data.slots import Slots, receive, stop_receiving

_RECEIVERS = itertools.count()

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
        worker_init_fn=_settle if workers else None,
        pin_memory=torch.cuda.is_available(),
    )


class _Loader(DataLoader):
    """Raises what a worker found wrong with the data as it is; torch would wrap it in the worker's traceback."""

    def __iter__(self) -> Any:
        receiver = self.dataset.receiver = next(_RECEIVERS)  # type: ignore[attr-defined]
        receive(receiver)
        batches = super().__iter__()
        try:
            for batch in batches:
                if isinstance(batch, _Refused):
                    raise batch.error
                yield batch
        finally:
            del batches  # ends the workers
            stop_receiving(receiver)


@dataclass(frozen=True)
class _Refused:
    error: ValueError


class _Steps(Dataset):
    """Item s is the batch of step s. Each worker has a copy of this, and so slots of its own."""

    def __init__(self, make_batch: Callable[[int, Empty], Any], count: int, slots: int) -> None:
        self.make_batch = make_batch
        self.count = count
        self.slots = Slots(slots)
        self.receiver = -1

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, step: int) -> Any:
        worker = get_worker_info()
        if worker is None:
            return self.make_batch(step, fresh)
        self.slots.turn()
        with torch.inference_mode():  # what torch keeps for gradients takes a twentieth of a sample's time
            try:
                batch = self.make_batch(step, self.slots.empty)
            except ValueError as error:
                return _Refused(error)
            return self.slots.pack(batch, self.receiver, worker.id)


def _settle(worker: int) -> None:
    """A worker computes in one thread, and need not look for garbage among what it was started with."""
    torch.set_num_threads(1)
    gc.freeze()
