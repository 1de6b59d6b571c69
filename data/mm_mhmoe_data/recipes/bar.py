"""Progress of a recipe: a bar in the terminal, or the caller's own callback."""

from __future__ import annotations

from collections.abc import Callable

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Bar:
    """A context whose value is called with the number of finished steps; `callback` gets (done, total)."""

    def __init__(self, total: int, callback: Callable[[int, int], None] | None) -> None:
        self.total, self.done, self.callback = total, 0, callback
        self.bar = Progress(
            TextColumn("pictures"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            disable=bool(callback),
        )

    def __enter__(self) -> Callable[[int], None]:
        self.bar.start()
        self.task = self.bar.add_task("pictures", total=self.total)
        return self._advance

    def _advance(self, steps: int) -> None:
        self.done += steps
        self.bar.advance(self.task, steps)
        if self.callback:
            self.callback(self.done, self.total)

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
