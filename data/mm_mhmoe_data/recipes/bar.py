"""Progress of a recipe: a bar on a terminal, lines elsewhere, or the caller's own callback."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_SECONDS_BETWEEN_LINES = 10.0


class Bar:
    """A context whose value is called with the finished steps and their samples; `callback` gets (done, total).

    `unit` is what is counted. `done` of `total` steps may be finished from the start; they do not count for speed.
    """

    def __init__(
        self, total: int, callback: Callable[[int, int], None] | None, *, unit: str = "pictures", done: int = 0
    ) -> None:
        self.total, self.done, self.callback, self.unit = total, done, callback, unit
        self.first, self.samples = done, 0
        self.console = Console(stderr=True)
        self.lines = not callback and not self.console.is_terminal
        self.bar = Progress(
            TextColumn(unit),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=bool(callback) or self.lines,
        )

    def __enter__(self) -> Callable[..., None]:
        self.started = self.spoke = time.monotonic()
        self.bar.start()
        self.task = self.bar.add_task(self.unit, total=self.total, completed=self.done, speed="")
        return self._advance

    def _advance(self, steps: int, samples: int = 0) -> None:
        self.done += steps
        self.samples += samples
        self.bar.update(self.task, advance=steps, speed=self._speed())
        if self.callback:
            self.callback(self.done, self.total)
        if self.lines and (self.done == self.total or time.monotonic() - self.spoke >= _SECONDS_BETWEEN_LINES):
            self._line()

    def _speed(self) -> str:
        seconds = max(time.monotonic() - self.started, 1e-9)
        return f"{self.samples / seconds:,.0f} samples/s" if self.samples else ""

    def _line(self) -> None:
        self.spoke = time.monotonic()
        made = self.done - self.first
        left = (self.spoke - self.started) / max(made, 1) * (self.total - self.done)
        told = f"{left:,.0f} s left" if left and 50 * made >= self.total else ""  # before that, it is mostly the start
        parts = [f"{self.done:,} of {self.total:,} {self.unit}", self._speed(), told]
        self.console.print(", ".join(part for part in parts if part), highlight=False)

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
