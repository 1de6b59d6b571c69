"""The directory of a run: what it was asked to do, and whether that is done.

out/run.json        the arguments of the run
out/checkpoints/    while it runs
out/logs/           CSV and TensorBoard
out/config.json, model.safetensors, ...   when it is finished: a model directory
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from mm_mhmoe_eval.results import git_hash
from torch import nn

from mm_mhmoe import __version__
from mm_mhmoe.models.checkpoints import CONFIG, save
from mm_mhmoe.process import switches
from mm_mhmoe.training.checkpoint_io import write_atomically
from mm_mhmoe.training.interrupted import is_first_process
from mm_mhmoe.training.resuming import differing

RUN = "run.json"


def plain(value: Any) -> Any:
    """Arguments as JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, (Path, os.PathLike)) else value


def open_run(out: Path, command: str, arguments: dict[str, Any]) -> bool:
    """Prepares `out`; True when there is work to do, False when the very same run is finished.

    Only the first of several processes looks into `out` and writes; the others follow it.

    Raises:
        ValueError: `out` holds something else, or a run with other arguments; names what differs and what to do.
    """
    if not is_first_process():
        return not (out / CONFIG).is_file()
    wanted = {"command": command, "arguments": plain({k: v for k, v in arguments.items() if k != "out"})}
    record = out / RUN
    if record.is_file():
        try:
            found = json.loads(record.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{record} is damaged ({error}); delete {out} or choose another --out") from error
        if not isinstance(found, dict) or not isinstance(found.get("arguments"), dict):
            raise ValueError(f"{record} is no record of a run; delete {out} or choose another --out")
        if found.get("command") != command:
            raise ValueError(f"out={out} holds a run of `{found.get('command')}`; choose another --out for `{command}`")
        there, now = _results_of(found["arguments"]), _results_of(wanted["arguments"])
        if there != now and _begun(out):
            raise ValueError(
                f"out={out} holds a run with other settings ({differing(there, now)}); "
                "choose another --out, or delete it to start over"
            )
        if (out / CONFIG).is_file():
            return False
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"out={out} is not empty and holds no run of mm-mhmoe; choose another --out")
    write_atomically(record, (json.dumps(wanted, indent=2) + "\n").encode())
    return True


def _begun(out: Path) -> bool:
    """Whether the run came as far as its first checkpoint; one that was refused before leaves the directory free."""
    return (out / CONFIG).is_file() or (out / "checkpoints").is_dir()


def _results_of(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments without those that change how a run is carried out but not what comes out of it."""
    logs = ("checkpoint_every", "log_every", "routing_every", "val_batches")
    scored = ("eval_tasks", "eval_every", "eval_data_dir")
    how = (*logs, *scored, "workers", "threads", "max_skipped", "resume", "fast_dev_run")
    return {**arguments, "run": {k: v for k, v in arguments.get("run", {}).items() if k not in how}}


def finish_run(model: nn.Module, out: Path, made: dict[str, Any], *, files: dict[str, Path] | None = None) -> None:
    """Saves the trained model into its run's directory and drops the checkpoints.

    config.json marks the run as finished, so it is moved in when everything else is in place. Of several processes,
    the first one does it.
    """
    if not is_first_process():
        return
    with tempfile.TemporaryDirectory(prefix=".finished.", dir=out) as scratch:
        whole = Path(scratch) / "model"
        save(model, whole, run=made, files=files)
        for path in sorted(whole.iterdir(), key=lambda path: path.name == CONFIG):
            os.replace(path, out / path.name)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)


def provenance(command: str, arguments: dict[str, Any], **more: Any) -> dict[str, Any]:
    """How a model was made, for its config.json."""
    return {
        "command": command,
        "arguments": plain(arguments),
        "mm_mhmoe": __version__,
        "git": git_hash(Path(__file__).parent),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "switches": switches(),
        **more,
    }
