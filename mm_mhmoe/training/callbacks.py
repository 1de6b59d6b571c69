"""What happens around a training step: saving, stopping, seeding."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import lightning as L
import torch

from mm_mhmoe.training.checkpoint_io import CHECKSUM, SUFFIX


class Checkpoints(L.Callback):
    """Saves `step_XXXXXXXX.ckpt` every so many steps and keeps the last two.

    Args:
        directory: where they lie.
        every: steps between two of them.
    """

    def __init__(self, directory: Path, *, every: int) -> None:
        if every < 1:
            raise ValueError(f"run.checkpoint_every={every} must be 1 or more")
        self.directory = directory
        self.every = every
        self._saved = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Of a resumed run this step is saved; saved again while gradients are added up, it would lack them.
        self._saved = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step % self.every == 0 and trainer.global_step != self._saved:
            self.save(trainer)

    def save(self, trainer: L.Trainer) -> Path:
        path = self.directory / f"step_{trainer.global_step:08d}{SUFFIX}"
        # Not `path.exists()`: ranks would see different answers, and a damaged file would stay.
        if trainer.global_step != self._saved:
            trainer.save_checkpoint(path)
            self._saved = trainer.global_step
        if trainer.is_global_zero:
            for old in sorted(self.directory.glob(f"step_*{SUFFIX}"))[:-2]:
                old.unlink()
                old.with_suffix(CHECKSUM).unlink(missing_ok=True)
        return path


class StopOnSignal(L.Callback):
    """The first Ctrl-C (or SIGTERM) ends the run after the running step, with a checkpoint; the second ends it at once.

    The handler only sets a flag: the ranks agree on it at the end of a step, so that all of them stop at the same one.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints
        self.requested = False
        self.saved: Path | None = None
        self._step = 0
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in self.SIGNALS}

    def _handle(self, number: int, frame: Any) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if trainer.global_step == self._step:
            return  # gradients are being accumulated; a checkpoint would not hold them
        requested = self.requested
        if trainer.world_size > 1:
            flag = torch.tensor(float(requested), device=pl_module.device)
            requested = bool(trainer.strategy.reduce(flag, reduce_op="sum") > 0)
        if requested:
            self.requested = True
            self.saved = self.checkpoints.save(trainer)
            trainer.should_stop = True

    # Not in teardown: by then Lightning has put back the handlers of before the run, and would find its own again.
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._restore()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}


class StepSeed(L.Callback):
    """Reseeds torch with (seed, batch, rank) before every batch, so that a resumed run draws the same dropout."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        torch.manual_seed((self.seed * 1_000_003 + batch_idx) * 4096 + trainer.global_rank)
