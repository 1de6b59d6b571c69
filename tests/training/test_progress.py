"""Truth: what a person reads: one line now and then in a file, the live bar only on a terminal."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from mm_mhmoe.training import progress
from mm_mhmoe.training.progress import StepProgress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def trainer(step: int, *, first: bool = True) -> SimpleNamespace:
    metrics = {"train/loss": 1.23456, "train/tokens_per_s": 4567.0}
    return SimpleNamespace(global_step=step, is_global_zero=first, progress_bar_metrics=metrics)


def run(clock: Clock, *, terminal: bool, seconds: float = 2.0, first: bool = True, start: int = 0) -> str:
    out = io.StringIO()
    bar = StepProgress("pretrain", 20, every=15.0, console=Console(file=out, force_terminal=terminal, width=120))
    bar.on_train_start(trainer(start, first=first), None)  # type: ignore[arg-type]
    for step in range(start + 1, 21):
        clock.now += seconds
        bar.on_train_batch_end(trainer(step, first=first))  # type: ignore[arg-type]
    bar.on_train_end(trainer(20, first=first), None)  # type: ignore[arg-type]
    return out.getvalue()


def test_lines_where_there_is_no_terminal(clock) -> None:
    lines = run(clock, terminal=False).splitlines()
    # every 15 s at 2 s a step: after steps 8 and 16, and at the end
    assert [line.split()[1] for line in lines] == ["8/20", "16/20", "20/20"]
    assert "24 s left" in lines[0] and "loss 1.23" in lines[0] and "tokens_per_s 4.6k" in lines[0]
    assert all("\x1b" not in line for line in lines)


def test_long_times_are_read_at_a_glance(clock) -> None:
    lines = run(clock, terminal=False, seconds=30.0).splitlines()
    assert "10 min left" in lines[0].replace("  ", " ") and "30 s left" in lines[-2]
    assert "2 h 51 min left" in run(clock, terminal=False, seconds=540.0).splitlines()[0].replace("  ", " ")


def test_time_left_counts_from_where_the_run_was_resumed(clock) -> None:
    assert "8 s left" in run(clock, terminal=False, start=8).splitlines()[0]  # step 16: 4 steps of 2 s


def test_a_bar_on_a_terminal(clock) -> None:
    out = run(clock, terminal=True)
    assert "\x1b" in out and "20/20" in out and "s left" not in out


def test_other_ranks_are_silent(clock) -> None:
    assert run(clock, terminal=False, first=False) == ""


def test_the_bar_ends_with_the_run(clock) -> None:
    """A bar that is still live hides the cursor and swallows what is printed after an error."""
    bar = StepProgress("pretrain", 20, console=Console(file=io.StringIO(), force_terminal=True))
    bar.on_train_start(trainer(0), None)  # type: ignore[arg-type]
    live = bar._bar
    assert live is not None and live.live.is_started
    bar.on_exception(trainer(0), None, ValueError())  # type: ignore[arg-type]
    assert not live.live.is_started
