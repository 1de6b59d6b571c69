"""Texts of like length together, without a change to which samples an optimiser's step has."""

from __future__ import annotations

from collections.abc import Sequence

from mm_mhmoe_data.sampling import Pick, StepOrder


def by_length(lengths: Sequence[int], parts: int, ranks: int) -> list[list[list[int]]]:
    """Deals places of `lengths` out to parts (one after the other) and ranks (at the same time): [part][rank].

    All get equally many. A part holds neighbours in length, so that little is padded, and its ranks take turns in
    them, so that none waits for another. The same lengths give the same answer; those that are equal stay in order.

    Raises:
        ValueError: the places cannot be dealt out evenly.
    """
    if not lengths or len(lengths) % (parts * ranks):
        raise ValueError(f"{len(lengths)} texts cannot be dealt out to {parts} micro-batches of {ranks} processes")
    places = sorted(range(len(lengths)), key=lambda place: lengths[place])
    size = len(places) // parts
    return [
        [places[start + rank : start + size : ranks] for rank in range(ranks)] for start in range(0, len(places), size)
    ]


class BucketedOrder:
    """The picks of one rank where an optimiser's step takes `accumulate` batches: a `StepOrder`, dealt by length.

    An optimiser's step has the samples that it has without buckets, whatever the number of ranks; so a run can be
    stopped and resumed at any batch.

    Args:
        order: that of all ranks together (rank 0 of 1).
        lengths: of each sample's text, by its index; what grows with the number of tokens will do, such as bytes.
        accumulate: batches of an optimiser's step.
    """

    def __init__(
        self, order: StepOrder, lengths: Sequence[int], *, accumulate: int, rank: int = 0, world_size: int = 1
    ) -> None:
        if order.world_size != 1:
            raise ValueError(f"order is that of one of {order.world_size} processes; give the order of all together")
        self.order = order
        self.lengths = lengths
        self.accumulate = accumulate
        self.rank = rank
        self.world_size = world_size

    def __call__(self, batch: int) -> list[Pick]:
        """The samples of this rank's batch."""
        step, part = divmod(batch, self.accumulate)
        first = step * self.accumulate
        picks = [pick for b in range(first, first + self.accumulate) for pick in self.order(b)]
        dealt = by_length([self.lengths[pick.sample] for pick in picks], self.accumulate, self.world_size)
        return [picks[place] for place in dealt[part][self.rank]]
