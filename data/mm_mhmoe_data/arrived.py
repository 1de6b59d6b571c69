"""Streamed samples in the place of a data set: those of the batch that is being made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice

from torch import Tensor
from torch.utils.data import get_worker_info

from mm_mhmoe_data.pipeline import Parts
from mm_mhmoe_data.quarantine import Quarantine
from mm_mhmoe_data.sampling import Pick
from mm_mhmoe_data.shards import expand_shards
from mm_mhmoe_data.streaming import StreamedSample, stream_samples


class Arrived:
    """Draws batches from shards that are read from their beginning, epoch after epoch.

    Every process and every worker of its loader reads shards of its own. A resumed run begins with an order of its own,
    so that it does not see the first shards again: which samples come is not what it would have been (approximate
    resume).

    Args:
        shards: what `expand_shards` takes; at least one for each worker of all processes.
        buffer: samples among which the next is drawn.
        quarantine: told about samples and shards that cannot be used.
    """

    def __init__(
        self, shards: str, parts: Parts, *, seed: int, buffer: int, allow_pipe: bool, quarantine: Quarantine
    ) -> None:
        self.shards = tuple(expand_shards(shards, allow_pipe=allow_pipe))
        self.parts: Parts = parts
        self.seed = seed
        self.buffer = buffer
        self.allow_pipe = allow_pipe
        self.quarantine = quarantine
        self.keys = _Keys(self)
        self.place, self.first_step = (0, 1), 0
        self._samples: dict[int, StreamedSample] = {}
        self._arriving: Iterator[tuple[int, int, StreamedSample]] | None = None

    def begin(self, rank: int, world_size: int, first_step: int) -> None:
        """Which process of how many this is, and the step at which its run begins or goes on."""
        self.place, self.first_step = (rank, world_size), first_step

    def __len__(self) -> int:
        return len(self._samples)

    def take(self, batch_size: int) -> list[Pick]:
        """The next samples; those taken before are given up."""
        if self._arriving is None:
            self._arriving = self._endless()
        taken = list(islice(self._arriving, batch_size))
        self._samples = {number: sample for _, number, sample in taken}
        return [Pick(epoch, number) for epoch, number, _ in taken]

    def sample(self, number: int) -> StreamedSample:
        return self._samples[number]

    def has_several_captions(self, number: int) -> bool:
        """A stream does not look beside its shards."""
        return False

    def caption(self, number: int) -> str:
        return self._samples[number].caption

    def picture(self, number: int, *, at_least: int | None = None) -> Tensor:
        """uint8 RGB (3, H, W), of its own size whatever `at_least` is."""
        picture = self._samples[number].picture
        assert picture is not None, f"a stream of {self.parts} has no pictures"
        return picture

    def find_picture(self, number: int) -> Callable[[int | None], Tensor]:
        """As `ShardDataset.find_picture`."""
        return lambda at_least: self.picture(number, at_least=at_least)

    def _endless(self) -> Iterator[tuple[int, int, StreamedSample]]:
        worker = get_worker_info()
        own, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        rank, world_size = self.place
        numbers = count()
        for epoch in count():
            arriving = stream_samples(
                self.shards,
                self.parts,
                seed=self.seed,
                epoch=self.first_step + epoch,
                share=(rank * workers + own, world_size * workers),
                buffer=self.buffer,
                allow_pipe=self.allow_pipe,
                bad=self.quarantine.refuse,
            )
            sample = None
            for sample in arriving:
                yield epoch, next(numbers), sample
            if sample is None:
                names = ", ".join(map(str, self.shards[:3]))
                raise ValueError(f"a worker found no {self.parts} in its share of {names} ...; check the shards")


class _Keys(Sequence[str]):
    def __init__(self, arrived: Arrived) -> None:
        self.arrived = arrived

    def __len__(self) -> int:
        return len(self.arrived)

    def __getitem__(self, number):  # type: ignore[no-untyped-def]
        return self.arrived.sample(number).key
