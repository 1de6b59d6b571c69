"""A training command tried out: everything that it does, on two steps, with nothing left behind."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mm_mhmoe.training.interrupted import is_first_process

STEPS = 2


def fast_dev_run(command: Callable[..., None], arguments: dict[str, Any], **changes: Any) -> None:
    """Runs `command` for two steps in a throw-away directory: data, checkpoint, one batch of validation, saved model.

    Args:
        arguments: of the command, with `run.fast_dev_run` set.
        changes: arguments that two steps need otherwise.
    """
    run = replace(
        arguments["run"],
        fast_dev_run=False,
        checkpoint_every=1,
        log_every=1,
        routing_every=min(1, arguments["run"].routing_every),
        val_batches=1,
    )
    with tempfile.TemporaryDirectory(prefix="mm-mhmoe-") as folder:
        command(**{**arguments, "out": Path(folder) / "run", "steps": STEPS, "run": run, **changes})
    if is_first_process():
        validated = ", 1 batch of validation" if arguments.get("val_shards") else ""
        print(
            f"fast_dev_run: all of it ran: {STEPS} steps{validated}, a checkpoint, the saved model. Nothing was kept; "
            f"{arguments['out']} is untouched"
        )
