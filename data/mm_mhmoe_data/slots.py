"""Shared memory that a worker fills in turns, and batches that travel as references to it.

torch sends each tensor of a batch as an open file, which costs a third of a millisecond in both processes, every time.
Here a piece of memory is sent once; batches name it. Tensors that lie elsewhere travel as bytes.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

Place = tuple[int, int, int]
"""Numbers of a worker, of a slot, and of a piece in it."""

_ARRIVED: dict[int, dict[Place, Tensor]] = {}


class Slots:
    """Pieces of shared memory, one list for each of `count` batches; a piece grows when a batch needs more."""

    def __init__(self, count: int) -> None:
        self.slots: list[list[Tensor]] = [[] for _ in range(count)]
        self.current = -1
        self.used = 0
        self._new: dict[tuple[int, int], Tensor] = {}

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
            self._new[self.current, self.used] = pieces[self.used]
        self.used += 1
        return pieces[self.used - 1][:size].view(dtype).view(tuple(shape))

    def pack(self, batch: Any, receiver: int, worker: int) -> Parcel:
        """The batch, as the process that called `receive` unpickles it."""
        pieces = {
            piece.untyped_storage().data_ptr(): (worker, self.current, number)
            for number, piece in enumerate(self.slots[self.current][: self.used])
            if len(piece)  # what is empty has no address
        }
        content = io.BytesIO()
        _Packer(content, pieces).dump(batch)
        new, self._new = self._new, {}
        return Parcel(receiver, content.getvalue(), {(worker, *place): piece for place, piece in new.items()})


class Parcel(NamedTuple):
    """A batch on its way. Pickled by a worker, it is the batch itself that is unpickled.

    pieces: those that content is the first to name.
    """

    receiver: int
    content: bytes
    pieces: dict[Place, Tensor]

    def __reduce__(self) -> Any:
        return _unpack, tuple(self)


def receive(receiver: int) -> None:
    """From here on, parcels to this number can be unpickled in this process; it must not be in use."""
    _ARRIVED[receiver] = {}


def stop_receiving(receiver: int) -> None:
    """Gives up the pieces that have arrived; batches keep those that they lie in."""
    del _ARRIVED[receiver]


def _unpack(receiver: int, content: bytes, pieces: dict[Place, Tensor]) -> Any:
    arrived = _ARRIVED[receiver]
    arrived.update(pieces)
    return _Unpacker(io.BytesIO(content), arrived).load()


class _View(NamedTuple):
    """A tensor in a piece."""

    place: Place
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _Packer(pickle.Pickler):
    def __init__(self, file: io.BytesIO, pieces: dict[int, Place]) -> None:
        """`pieces`: by their address."""
        super().__init__(file, protocol=5)
        self.pieces = pieces

    def persistent_id(self, thing: Any) -> _View | None:
        if not isinstance(thing, Tensor):
            return None
        place = self.pieces.get(thing.untyped_storage().data_ptr())
        if place is None:
            return None
        return _View(place, thing.dtype, int(thing.storage_offset()), tuple(thing.shape), thing.stride())

    def reducer_override(self, thing: Any) -> Any:
        """Small tensors as arrays: torch's own way to pickle them takes ten times as long."""
        if type(thing) is not Tensor:
            return NotImplemented
        try:
            return torch.from_numpy, (thing.numpy(),)
        except (TypeError, RuntimeError):  # bfloat16, or part of a graph
            return NotImplemented


class _Unpacker(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, pieces: dict[Place, Tensor]) -> None:
        super().__init__(file)
        self.pieces = pieces

    def persistent_load(self, view: _View) -> Tensor:
        storage = self.pieces[view.place].untyped_storage()
        return torch.empty(0, dtype=view.dtype).set_(storage, view.offset, view.shape, view.stride)
