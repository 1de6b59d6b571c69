"""The progress of a run: a live bar on a terminal, one line now and then elsewhere."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class StepProgress(L.Callback):
    """Shows step, time left and the metrics that the module logs with `prog_bar=True`.

    Args:
        title: what runs, e.g. "pretrain".
        total: steps of the run.
        every: seconds between two lines where the output is no terminal.
    """

    def __init__(self, title: str, total: int, *, every: float = 15.0, console: Console | None = None) -> None:
        self.title = title
        self.total = total
        self.every = every
        self.console = console or Console()
        self._bar: Progress | None = None
        self._shown = self._started = 0.0
        self._first = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        self._started = self._shown = time.monotonic()
        self._first = trainer.global_step
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn(f"[bold]{self.title:<18}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[metrics]}"),
                console=self.console,
                speed_estimate_period=600,  # some steps take minutes
            )
            self._bar.add_task(self.title, total=self.total, completed=self._first, metrics="")
            self._bar.start()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if not trainer.is_global_zero:
            return
        done, now = trainer.global_step, time.monotonic()
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, metrics=self._metrics(trainer))
        elif now - self._shown >= self.every or done == self.total:
            self._shown = now
            per_step = (now - self._started) / max(1, done - self._first)
            left = per_step * (self.total - done)
            self.console.print(
                f"{self.title:<18} {done:>5}/{self.total}  {_span(left)} left  {self._metrics(trainer)}",
                highlight=False,
            )

    def _metrics(self, trainer: L.Trainer) -> str:
        values = trainer.progress_bar_metrics
        return "  ".join(f"{name.removeprefix('train/')} {_short(value)}" for name, value in values.items())

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._stop()


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:4.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes:4} min" if minutes < 120 else f"{minutes // 60:4} h {minutes % 60:2} min"


def _short(value: Any) -> str:
    if not isinstance(value, (int, float)):
        return str(value)
    return f"{value / 1000:.1f}k" if abs(value) >= 1000 else f"{value:.3g}"
