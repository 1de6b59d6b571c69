"""Truth: contestants whose behaviour is known, and tensors whose size can be counted."""

import subprocess
import sys

import torch
from torch import nn

from mm_mhmoe.analysis import timing
from mm_mhmoe.analysis.timing import Timing, interleave, own_cpu_seconds, peak_bytes, saved_bytes


def test_turns_are_interleaved_and_reversed(monkeypatch) -> None:
    monkeypatch.setattr(timing, "other_cpu_seconds", lambda: 0.0)
    calls: list[str] = []
    timings = interleave({name: lambda name=name: calls.append(name) for name in "abc"}, samples=2, least_seconds=0.0)
    rounds = calls[6:]  # after the warm-up and one call that finds the number of repeats, for each
    order = [name for i, name in enumerate(rounds) if i == 0 or rounds[i - 1] != name]
    assert order == ["a", "b", "c", "b", "a"]
    assert [len(t.samples) for t in timings.values()] == [2, 2, 2]


def test_a_busy_machine_gives_no_samples(monkeypatch) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr(timing, "other_cpu_seconds", lambda: float(next(clock)))
    found = interleave({"a": lambda: None}, samples=3, least_seconds=0.0, max_rounds=4)["a"]
    assert found.samples == [] and found.dropped == 4
    assert found.median != found.median  # not a number


def test_children_that_have_ended_count_as_our_own() -> None:
    code = "import time\nwhile time.process_time() < 0.3: pass"
    before = own_cpu_seconds()
    subprocess.run([sys.executable, "-c", code], check=True)
    assert own_cpu_seconds() - before >= 0.28  # the clock of processes ticks in hundredths


def test_median_and_range() -> None:
    found = Timing(samples=[1.0, 4.0, 2.0])
    assert found.median == 2.0 and found.spread == 1.5


def test_saved_bytes_of_a_linear_and_a_gelu() -> None:
    """A Linear keeps its input, GELU its own input; one storage counts once, parameters not at all."""
    net = nn.Sequential(nn.Linear(4, 8), nn.GELU())
    x = torch.randn(10, 4, requires_grad=True)
    assert saved_bytes(lambda: net(x), net.parameters()) == 4 * (10 * 4 + 10 * 8)
    assert saved_bytes(lambda: x * x, []) == 4 * 10 * 4


def test_peak_of_tensors_that_do_not_all_live_at_once() -> None:
    """a, b, their sum; then a and b are gone and a larger tensor comes: 3 x 4 kB against 1 x 4 + 1 x 6 kB."""

    def run() -> None:
        total = torch.zeros(1000) + torch.ones(1000)
        torch.cat([total, total[:500]])

    assert peak_bytes(run) == 12_000
