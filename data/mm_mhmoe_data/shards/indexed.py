"""Shards as a list of samples, by their indexes: any sample by its number, in little memory."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from mm_mhmoe_data.shards.counts import check_counts
from mm_mhmoe_data.shards.errors import ShardError
from mm_mhmoe_data.shards.index import ShardIndex
from mm_mhmoe_data.shards.index_file import read_header, read_index
from mm_mhmoe_data.shards.index_store import cache_folder, find_all, index_shards
from mm_mhmoe_data.shards.location import Shard

_OPEN_FILES, _OPEN_INDEXES = 64, 256

_T = TypeVar("_T")


class SampleError(ShardError):
    """One sample cannot be used, the shard otherwise can. index: its number; stage: read, decode, text or json."""

    def __init__(self, message: str, index: int = -1, stage: str = "") -> None:
        super().__init__(message)
        self.index = index
        self.stage = stage

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.index, self.stage)


class IndexedShards:
    """The samples of shards that have all the parts asked for, numbered in the order of the shards.

    Shards without a valid index are read and checked first; their indexes are kept in the user's folder for indexes.
    Remote shards that have one are fetched when a sample of theirs is read.

    Args:
        shards: where they lie.
        needs: IMAGE, TEXT, both or 0. Samples that lack one are not numbered; `left_out` counts them.

    Raises:
        ShardError: a shard cannot be trusted, or holds another number of samples than a list beside it says.
        RemoteError: a shard cannot be found or fetched.
        ValueError: no sample has what is needed.
    """

    def __init__(self, shards: Sequence[Shard], needs: int, index_folder: Path | None = None) -> None:
        self.shards = find_all(shards)
        self.needs = needs
        self.keys = _Keys(self)
        self._indexes = index_shards(self.shards, index_folder or cache_folder())
        counts = [_counts(path, needs) for path in self._indexes]
        check_counts(self.shards, [total for _, total in counts])
        self.counts: NDArray[np.int64] = np.array([usable for usable, _ in counts], np.int64)
        self.left_out = sum(total - usable for usable, total in counts)
        self._end = np.cumsum(self.counts)
        self._loaded: _Recent[_Loaded] = _Recent(_OPEN_INDEXES)
        self._files: _Recent[_File] = _Recent(_OPEN_FILES)

    def __len__(self) -> int:
        return int(self._end[-1]) if len(self._end) else 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": _Recent(_OPEN_INDEXES), "_files": _Recent(_OPEN_FILES)}

    def shard_of(self, index: int) -> Shard:
        return self.shards[self._find(index)[0]]

    def key(self, index: int) -> str:
        number, place = self._find(index)
        return self._load(number).samples.key(place)

    def members(self, index: int) -> dict[str, tuple[int, int]]:
        """Offset and size in bytes of every member, by extension."""
        number, place = self._find(index)
        return self._load(number).samples.members(place)

    def read(self, index: int, offset: int, size: int) -> bytes:
        """Bytes of a sample's shard. Raises `SampleError` if the shard is shorter than its index says."""
        number = self._find(index)[0]
        file = self._files.get(number)
        if file is None:
            file = self._files.put(number, self._open(number))
        content = os.pread(file.descriptor, size, offset)  # no file position, which forked data workers would share
        if len(content) != size:
            raise self.error(index, "is cut short: the shard was changed after it was indexed", "read")
        return content

    def error(self, index: int, problem: str, stage: str) -> SampleError:
        return SampleError(f"shard {self.shard_of(index)}: sample {self.key(index)} {problem}", index, stage)

    def _find(self, index: int) -> tuple[int, int]:
        """Number of the shard and place in its index."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        number = int(np.searchsorted(self._end, index, side="right"))
        place = index - int(self._end[number] - self.counts[number])
        places = self._load(number).places
        return number, place if places is None else int(places[place])

    def _open(self, number: int) -> _File:
        shard, index = self.shards[number], self._indexes[number]
        if not shard.is_remote:
            return shard.use(_File)
        try:
            return shard.use(_File, read_header(index)["sha256"])
        except ShardError:  # the next start is to ask for the index anew
            index.unlink(missing_ok=True)
            raise

    def _load(self, number: int) -> _Loaded:
        loaded = self._loaded.get(number)
        if loaded is None:
            index = read_index(self._indexes[number])
            whole = len(index) == self.counts[number]
            loaded = self._loaded.put(number, _Loaded(index, None if whole else index.places(self.needs)))
        return loaded


class _Loaded(NamedTuple):
    """places: of the numbered samples; None: all are."""

    samples: ShardIndex
    places: NDArray[np.int64] | None


class _File:
    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        os.close(self.descriptor)


class _Recent(Generic[_T]):
    """The last few things used, by number."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.things: OrderedDict[int, _T] = OrderedDict()

    def get(self, number: int) -> _T | None:
        if number in self.things:
            self.things.move_to_end(number)
        return self.things.get(number)

    def put(self, number: int, thing: _T) -> _T:
        self.things[number] = thing
        if len(self.things) > self.most:
            self.things.popitem(last=False)
        return thing


class _Keys(Sequence[str]):
    """The key of every sample, looked up when asked for."""

    def __init__(self, shards: IndexedShards) -> None:
        self.shards = shards

    def __len__(self) -> int:
        return len(self.shards)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self.shards.key(i) for i in range(*index.indices(len(self)))]
        return self.shards.key(index)

    def __iter__(self) -> Iterator[str]:
        return (self.shards.key(i) for i in range(len(self)))


def _counts(index: Path, needs: int) -> tuple[int, int]:
    """Samples with what is needed, and all."""
    flags = read_header(index)["flags"]
    return sum(count for has, count in flags.items() if has & needs == needs), sum(flags.values())
