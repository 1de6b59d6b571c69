"""Timings that can be compared: side by side in one process, in turns, while nothing else runs."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclass
class Timing:
    """Seconds of one call: every sample that counts, and how many were dropped because the machine was busy."""

    samples: list[float] = field(default_factory=list)
    dropped: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.samples) if self.samples else float("nan")

    @property
    def spread(self) -> float:
        """Range of the samples over their median."""
        return (max(self.samples) - min(self.samples)) / self.median if self.samples else float("nan")

    def against(self, limit: Timing) -> dict[str, Any]:
        """For a record: `of_limit` (the limit's median over this one's), milliseconds, and how they came about."""
        return {
            "of_limit": limit.median / self.median,
            "milliseconds": 1e3 * self.median,
            "range": self.spread,
            "samples": len(self.samples),
            "dropped": self.dropped,
        }


def interleave(
    contestants: Mapping[str, Callable[[], Any]],
    *,
    samples: int = 5,
    least_seconds: float = 0.15,
    busy_cores: float = 0.25,
    max_rounds: int = 12,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Times all contestants in turns, in reversed order every other round, after one warm-up call each.

    Args:
        samples: wanted of each contestant. Fewer come back if the machine stays busy for max_rounds.
        least_seconds: a sample repeats its call until it is this long.
        busy_cores: a sample counts only if other processes used fewer cores than this during it (Linux; elsewhere all
            samples count).
        clock: seconds. time.process_time counts what this process computes and not what it waits for.
    """
    timings = {name: Timing() for name in contestants}
    repeats = {}
    for name, run in contestants.items():
        run()
        start = clock()
        run()
        repeats[name] = max(1, round(least_seconds / max(1e-6, clock() - start) + 0.5))
    for turn in range(max_rounds):
        waiting = [name for name, timing in timings.items() if len(timing.samples) < samples]
        if not waiting:
            break
        for name in waiting if turn % 2 == 0 else reversed(waiting):
            others = other_cpu_seconds()
            start = clock()
            for _ in range(repeats[name]):
                contestants[name]()
            seconds = clock() - start
            if other_cpu_seconds() - others < busy_cores * seconds + 2 / _TICKS:
                timings[name].samples.append(seconds / repeats[name])
            else:
                timings[name].dropped += 1
    return timings


def other_cpu_seconds() -> float:
    """CPU time that other processes have used since the machine started; 0 where it cannot be known.

    Children of this process count as others until they have ended.
    """
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system, _idle, _wait, irq, softirq = map(int, stat.read_text().split("\n", 1)[0].split()[1:8])
    return (user + nice + system + irq + softirq) / _TICKS - own_cpu_seconds()


def own_cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    own = os.times()
    return own.user + own.system + own.children_user + own.children_system


def saved_bytes(run: Callable[[], Any], parameters: Iterable[Tensor]) -> int:
    """Bytes that autograd keeps from the forward pass `run` for the backward pass; parameters are not counted."""
    own = {p.untyped_storage().data_ptr() for p in parameters}
    stores: dict[int, int] = {}
    kept = []  # a freed address could be used again

    def note(tensor: Tensor) -> Tensor:
        store = tensor.untyped_storage()
        if store.data_ptr() not in own:
            stores[store.data_ptr()] = store.nbytes()
            kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = run()
    del result
    return sum(stores.values())


def peak_bytes(run: Callable[[], Any]) -> int:
    """The most memory that the tensors which `run` makes take at once on the CPU, beyond what is there before."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or it writes to the terminal when it starts and stops
    with torch.autograd.profiler.profile(profile_memory=True) as record:
        run()
    # The public records sum up the changes of an operation; what counts here is their order.
    changes = [event for event in record.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak
