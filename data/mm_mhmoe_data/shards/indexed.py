"""Shards as a list of samples, by their indexes: any sample by its number, in little memory."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from mm_mhmoe_data.shards.counts import check_counts
from mm_mhmoe_data.shards.errors import ShardError
from mm_mhmoe_data.shards.index import ShardIndex
from mm_mhmoe_data.shards.index_file import read_header, read_index
from mm_mhmoe_data.shards.index_store import cache_folder, find_all, index_shards
from mm_mhmoe_data.shards.location import Shard

_OPEN_FILES, _OPEN_INDEXES, _FOUND = 64, 256, 4096

_T = TypeVar("_T")


class SampleError(ShardError):
    """One sample cannot be used, the shard otherwise can.

    stage: read, decode, text or json. index: number of the sample in its data set; -1: it was streamed.
    """

    def __init__(self, shard: str, key: str, problem: str, stage: str, index: int = -1) -> None:
        super().__init__(f"shard {shard}: sample {key} {problem}")
        self.shard, self.key, self.problem, self.stage, self.index = shard, key, problem, stage, index

    def __reduce__(self) -> Any:
        return type(self), (self.shard, self.key, self.problem, self.stage, self.index)


class IndexedShards:
    """The samples of shards that have all the parts asked for, numbered in the order of the shards.

    Shards without a valid index are read and checked first; their indexes are kept in the user's folder for indexes.
    Remote shards that have one are fetched when a sample of theirs is read.

    Args:
        shards: where they lie.
        needs: IMAGE, TEXT, both or 0. Samples that lack one are not numbered; `left_out` counts them.
        exclude: keys by the `place` of their shard; these samples are not numbered either; `excluded` counts them.

    Raises:
        ShardError: a shard cannot be trusted, or holds another number of samples than a list beside it says.
        RemoteError: a shard cannot be found or fetched.
        ValueError: no sample has what is needed.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        needs: int,
        index_folder: Path | None = None,
        exclude: Mapping[str, Set[str]] = MappingProxyType({}),
    ) -> None:
        self.shards = find_all(shards)
        self.needs = needs
        self.exclude = dict(exclude)
        self.keys = _Keys(self)
        self._indexes = index_shards(self.shards, index_folder or cache_folder())
        self._loaded: _Recent[_Loaded] = _Recent(_OPEN_INDEXES)
        counts = [self._counts(number) for number in range(len(self.shards))]
        check_counts(self.shards, [count.all for count in counts])
        self.counts: NDArray[np.int64] = np.array([count.usable for count in counts], np.int64)
        self.excluded = sum(count.excluded for count in counts)
        self.left_out = sum(count.all for count in counts) - self.excluded - int(self.counts.sum())
        self._end: list[int] = np.cumsum(self.counts).tolist()
        self._begin: list[int] = [0, *self._end[:-1]]
        self._found: dict[int, _Sample] = {}
        self._files: _Recent[_File] = _Recent(_OPEN_FILES)

    def __len__(self) -> int:
        return self._end[-1] if self._end else 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": _Recent(_OPEN_INDEXES), "_found": {}, "_files": _Recent(_OPEN_FILES)}

    @property
    def size(self) -> int:
        """Bytes of all shards together."""
        return sum(read_header(path)["size"] for path in self._indexes)

    def shard_of(self, index: int) -> Shard:
        return self.shards[self._find(index).number]

    def place(self, index: int) -> tuple[str, int]:
        """Checksum (sha256) of a sample's shard, and its number among all samples of the shard, usable or not."""
        sample = self._find(index)
        return sample.shard.sha256, sample.place

    def checksums(self) -> list[str]:
        """The sha256 of every shard when it was indexed."""
        return [read_header(path)["sha256"] for path in self._indexes]

    def key(self, index: int) -> str:
        sample = self._find(index)
        if sample.key is None:
            sample.key = sample.shard.key(sample.place)
        return sample.key

    def members(self, index: int) -> dict[str, tuple[int, int]]:
        """Offset and size in bytes of every member, by extension."""
        sample = self._find(index)
        if sample.members is None:
            sample.members = sample.shard.members(sample.place)
        return sample.members

    def read(self, index: int, offset: int, size: int) -> bytes:
        """Bytes of a sample's shard. Raises `SampleError` if the shard is shorter than its index says."""
        number = self._find(index).number
        file = self._files.get(number)
        if file is None:
            file = self._files.put(number, self._open(number))
        content = os.pread(file.descriptor, size, offset)  # no file position, which forked data workers would share
        if len(content) != size:
            raise self.error(index, "is cut short: the shard was changed after it was indexed", "read")
        return content

    def error(self, index: int, problem: str, stage: str) -> SampleError:
        return SampleError(str(self.shard_of(index)), self.key(index), problem, stage, index)

    def _find(self, index: int) -> _Sample:
        found = self._found.get(index)  # the samples of a batch are asked for several times
        if found is None:
            if not 0 <= index < len(self):
                raise IndexError(f"sample {index} of {len(self)}")
            number = bisect_right(self._end, index)
            place = index - self._begin[number]
            loaded = self._load(number)
            if loaded.places is not None:
                place = int(loaded.places[place])
            if len(self._found) == _FOUND:
                self._found.clear()
            found = self._found[index] = _Sample(number, place, loaded.samples)
        return found

    def _counts(self, number: int) -> _Counts:
        flags = read_header(self._indexes[number])["flags"]
        usable, excluded = sum(count for has, count in flags.items() if has & self.needs == self.needs), 0
        if self.shards[number].place in self.exclude:
            places = self._load(number).places
            assert places is not None
            excluded = usable - len(places)
        return _Counts(usable - excluded, excluded, sum(flags.values()))

    def _open(self, number: int) -> _File:
        shard = self.shards[number]
        if not shard.is_remote:
            return shard.use(_File)
        try:
            return shard.use(_File, self._load(number).samples.sha256)
        except ShardError:  # the next start is to ask for the index anew
            self._indexes[number].unlink(missing_ok=True)
            raise

    def _load(self, number: int) -> _Loaded:
        loaded = self._loaded.get(number)
        if loaded is None:
            index = read_index(self._indexes[number])
            excluded = self.exclude.get(self.shards[number].place)
            places = index.places(self.needs)
            if excluded is not None:
                places = np.array([place for place in places if index.key(place) not in excluded], np.int64)
            whole = excluded is None and len(places) == len(index)
            loaded = self._loaded.put(number, _Loaded(index, None if whole else places))
        return loaded


class _Counts(NamedTuple):
    """Samples of a shard that are numbered, those that only `exclude` keeps from that, and all."""

    usable: int
    excluded: int
    all: int


class _Loaded(NamedTuple):
    """places: of the numbered samples; None: all are."""

    samples: ShardIndex
    places: NDArray[np.int64] | None


@dataclass(slots=True)
class _Sample:
    """number: of the shard. place: in the shard's index."""

    number: int
    place: int
    shard: ShardIndex
    key: str | None = None
    members: dict[str, tuple[int, int]] | None = None


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
