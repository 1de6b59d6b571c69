from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from mm_mhmoe_data.tokenizer import TOKENIZER_FILE
from rich.console import Console

from mm_mhmoe.commands.run_dir import RUN
from mm_mhmoe.models.checkpoints import CONFIG, build, load, load_weights, read_config, save
from mm_mhmoe.training.checkpoint_io import newest_checkpoint


def export(run: Path, out: Path) -> None:
    """Writes a run's model as a directory of its own (model.safetensors, config.json, tokenizer, README).

    A finished run is copied; of a stopped one the newest good checkpoint is taken.

    Args:
        run: directory of the run.
        out: directory to write; must not exist.
    """
    if out.exists():
        raise ValueError(f"out={out} exists; choose another --out")
    if (run / CONFIG).is_file():
        model, made = load(run), read_config(run)["run"]
    else:
        model, made = _from_checkpoint(run)
    save(model, out, run=made, files=_tokenizer_files(run))
    Console().print(f"export: {run} -> {out}", highlight=False)


def _from_checkpoint(run: Path) -> tuple[torch.nn.Module, dict[str, Any]]:
    path = newest_checkpoint(run / "checkpoints")
    if path is None:
        raise ValueError(
            f"run={run} has neither a finished model nor a whole checkpoint in checkpoints/; nothing to export"
        )
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    model = build(json.loads(checkpoint["model_description"]))
    prefix = "model."
    weights = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
    load_weights(model, weights, path)
    record = json.loads((run / RUN).read_text(encoding="utf-8"))
    return model, {**record, "stopped_at_step": checkpoint["global_step"]}


def _tokenizer_files(run: Path) -> dict[str, Path]:
    """The text tokenizer that the run used: its own copy, or the one that its arguments name."""
    record = json.loads((run / RUN).read_text(encoding="utf-8")) if (run / RUN).is_file() else {"arguments": {}}
    for directory in (run, Path(str(record["arguments"].get("tokenizer", run)))):
        if (directory / TOKENIZER_FILE).is_file():
            return {TOKENIZER_FILE: directory / TOKENIZER_FILE}
    return {}
