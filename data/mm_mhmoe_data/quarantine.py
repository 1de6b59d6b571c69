"""Samples that cannot be used: replaced, counted, written down, and too many stop the run."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch.utils.data import get_worker_info

from mm_mhmoe_data.masking import sample_rng
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.sampling import Pick
from mm_mhmoe_data.shards.indexed import SampleError

QUARANTINE_FILE = "quarantine.jsonl"
_FIRST = 1000
_MOST_WORKERS = 256
_READ, _USED, _BAD = range(3)

_T = TypeVar("_T")


class TooManyBadSamples(ValueError):
    """The data cannot be trusted; the message says how much of it and what to do."""


class Quarantine:
    """Counts what is read, in the processes of all data workers of this rank, and judges it.

    Args:
        path: file that gets one line of JSON for every sample that cannot be used; None: none is written.
        max_bad_fraction: largest share of the samples read that may be unusable; among the first 1,000 it is that share
            of 1,000.
        max_in_a_row: unusable samples that one place of a batch may meet one after the other.
        seed: of the replacements.
    """

    def __init__(
        self, path: Path | None = None, *, max_bad_fraction: float = 0.01, max_in_a_row: int = 20, seed: int = 0
    ) -> None:
        if not 0 <= max_bad_fraction <= 1:
            raise ValueError(f"max_bad_fraction={max_bad_fraction} must lie between 0 and 1")
        if max_in_a_row < 1:
            raise ValueError(f"max_in_a_row={max_in_a_row} must be 1 or more")
        self.path = path
        self.max_bad_fraction = max_bad_fraction
        self.max_in_a_row = max_in_a_row
        self.seed = seed
        # A row for every worker, which alone writes to it.
        self._counts = torch.zeros(1 + _MOST_WORKERS, 3, dtype=torch.int64).share_memory_()
        self._known: set[tuple[str, str]] = set()

    @property
    def read(self) -> int:
        return int(self._counts[:, _READ].sum())

    @property
    def used(self) -> int:
        return int(self._counts[:, _USED].sum())

    @property
    def quarantined(self) -> int:
        return int(self._counts[:, _BAD].sum())

    def load(self, dataset: ShardDataset, count: int, pick: Pick, read: Callable[[Pick], _T]) -> tuple[Pick, _T]:
        """What `read` makes of the pick, or of a replacement; and which that was.

        A replacement depends on the seed and the bad pick, so a resumed run takes the same one. It may be one that
        comes in its own place as well.

        Args:
            dataset: of the samples that `read` reads.
            count: what replacements are drawn from; more than the samples where several picks share one.

        Raises:
            TooManyBadSamples: a limit is passed.
        """
        problem = None
        for attempt in range(self.max_in_a_row):
            self._count(_READ)
            try:
                result = read(pick)
            except SampleError as error:
                problem = error
                self._count(_BAD)
                self._write(dataset, error, pick.epoch)
                self._judge(error)
                rng = sample_rng(self.seed, pick.epoch, str(pick.sample), f"replacement {attempt}")
                pick = Pick(pick.epoch, int(rng.integers(count)))
            else:
                self._count(_USED)
                return pick, result
        raise TooManyBadSamples(
            f"{self.max_in_a_row} samples in a row cannot be used; the last: {problem}. {self._see()}"
        )

    def check(self) -> None:
        """Every sample that was read was used or quarantined. Raises RuntimeError."""
        if self.read != self.used + self.quarantined:
            raise RuntimeError(
                f"{self.read} samples were read, but {self.used} used and {self.quarantined} quarantined: "
                "samples were lost; this is an error of the program"
            )

    def __str__(self) -> str:
        return f"{self.read:,} samples read, {self.used:,} used, {self.quarantined:,} quarantined"

    def _count(self, what: int) -> None:
        worker = get_worker_info()
        self._counts[0 if worker is None else 1 + worker.id, what] += 1

    def _judge(self, error: SampleError) -> None:
        allowed = self.max_bad_fraction * max(self.read, _FIRST)
        if self.quarantined > allowed:
            raise TooManyBadSamples(
                f"{self.quarantined} of {self.read} samples read cannot be used, more than "
                f"max_bad_fraction={self.max_bad_fraction} allows; the last: {error}. {self._see()}"
            )

    def _see(self) -> str:
        listed = f"All are listed in {self.path}. " if self.path else ""
        return f"{listed}Look at the shards with `mm-mhmoe data validate`, or raise the limit."

    def _write(self, dataset: ShardDataset, error: SampleError, epoch: int) -> None:
        shard, key = dataset.shard_of(error.index), dataset.keys[error.index]
        if self.path is None or (shard, key) in self._known:
            return
        self._known.add((shard, key))
        try:
            digest = hashlib.sha256(dataset.sample_bytes(error.index)).hexdigest()
        except SampleError:
            digest = None  # it cannot even be read
        line = {
            "shard": shard,
            "key": key,
            "stage": error.stage,
            "error": str(error),
            "sha256": digest,
            "epoch": epoch,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # One write at the end of the file: lines of several workers do not mix.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, json.dumps(line).encode() + b"\n")
        finally:
            os.close(descriptor)
