"""How runs end early, and which process speaks for all of them."""

from __future__ import annotations

from pathlib import Path

from lightning.fabric.utilities.rank_zero import rank_zero_only


def is_first_process() -> bool:
    """Whether this process prints and writes for a run on several processes; true where there is only one."""
    return getattr(rank_zero_only, "rank", 0) == 0


class RunFailed(ValueError):
    """What ends a run on all of its processes at the same step, so that the first one alone needs to say it."""


class Interrupted(RuntimeError):
    """A run that was stopped by a signal after its checkpoint was written."""

    def __init__(self, checkpoint: Path | None, step: int) -> None:
        self.checkpoint = checkpoint
        self.step = step
        super().__init__(f"stopped after step {step}")
