"""Where a run starts: at nothing, at its own newest checkpoint, or at one that is named."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch

from mm_mhmoe.models.checkpoints import describe
from mm_mhmoe.training.checkpoint_io import SUFFIX, is_whole, newest_checkpoint
from mm_mhmoe.training.modules.run import RunModule


@dataclass(frozen=True, kw_only=True)
class Start:
    """Steps that are done, the checkpoint that holds them, and whether it is another run's."""

    step: int = 0
    checkpoint: Path | None = None
    elsewhere: bool = False


def find_start(out: Path, resume: str, module: RunModule, *, steps: int, accumulate: int) -> Start:
    """Where a run of `steps` steps in `out` starts.

    Args:
        resume: latest, never, or the path of a checkpoint (RunConfig).

    Raises:
        ValueError: resume=never where checkpoints are; or the named one was not written by this project, is damaged, or
            does not fit the run.
    """
    own = newest_checkpoint(out / "checkpoints")
    if resume == "never" and own is not None:
        raise ValueError(
            f"run.resume=never, but {own} is there; use run.resume=latest to go on from it, choose another --out, or "
            f"delete {out}"
        )
    if own is not None:
        return Start(step=int(own.stem.removeprefix("step_")), checkpoint=own)
    if resume in ("latest", "never"):
        return Start()
    path = Path(resume)
    found = read_checkpoint(path)
    _check_fits(found, path, module, steps=steps, accumulate=accumulate)
    return Start(step=found["global_step"], checkpoint=path, elsewhere=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of this project, its tensors left in the file. Raises ValueError for anything else."""
    if not path.is_file() or path.suffix != SUFFIX:
        raise ValueError(
            f"run.resume={path} is neither latest, never nor a checkpoint; name a file step_XXXXXXXX{SUFFIX} in the "
            "checkpoints/ of a run"
        )
    if not is_whole(path):
        raise ValueError(
            f"run.resume={path} has no checksum beside it, or another one: it is damaged, or was not written by "
            "mm-mhmoe; name another checkpoint"
        )
    found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if not isinstance(found, dict) or "model_description" not in found:
        raise ValueError(f"run.resume={path} was not written by a run of mm-mhmoe; name a checkpoint of one")
    return found


def _check_fits(found: dict[str, Any], path: Path, module: RunModule, *, steps: int, accumulate: int) -> None:
    def refuse(what: str) -> ValueError:
        return ValueError(f"run.resume={path} does not fit this run: {what}")

    there, here = json.loads(found["model_description"]), json.loads(json.dumps(describe(module.model)))
    if there != here:
        raise refuse(f"its model is another one ({differing(there, here)}); start from weights alone with --init")
    if found["global_step"] >= steps:
        raise refuse(f"it has {found['global_step']} steps, so that steps={steps} leaves nothing to do; raise steps")
    name = found.get("optimizer_name", module.optim_config.name)
    if name != module.optim_config.name:
        raise refuse(f"its optimiser is {name}; use optim.name={name}")
    groups = found["optimizer_states"][0]["param_groups"]
    wanted = module.configure_optimizers()["optimizer"].param_groups
    if [len(group["params"]) for group in groups] != [len(group["params"]) for group in wanted]:
        raise refuse("its parameters are grouped otherwise; use its optim.layer_decay and optim.head_lr_scale")
    (batches,) = [v["batches"] for v in found.values() if isinstance(v, dict) and "batches" in v]
    if batches != found["global_step"] * accumulate:
        raise refuse(f"a step of it had {batches / found['global_step']:g} batches; use that as run.accumulate")


def differing(a: dict[str, Any], b: dict[str, Any], prefix: str = "") -> str:
    """What differs between two nested records, with both values."""
    parts = []
    for name in sorted(a.keys() | b.keys()):
        old, new = a.get(name), b.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            parts.append(differing(old, new, f"{prefix}{name}."))
        elif old != new:
            parts.append(f"{prefix}{name}: {old} there, {new} now")
    return "; ".join(part for part in parts if part)


class OwnSettings(L.Callback):
    """Gives the optimiser the settings of this run where a checkpoint of another one has put its own.

    Of the other run it keeps weights, moments, the step and the place in the data.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, RunModule)
        wanted = pl_module.configure_optimizers()["optimizer"].param_groups
        (optimizer,), (config,) = trainer.optimizers, trainer.lr_scheduler_configs
        for group, own in zip(optimizer.param_groups, wanted, strict=True):
            group.update({name: value for name, value in own.items() if name not in ("params", "step")})
        scheduler = config.scheduler
        assert isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR)
        scheduler.base_lrs = [group["initial_lr"] for group in wanted]
        for group, factor in zip(optimizer.param_groups, scheduler.lr_lambdas, strict=True):
            group["lr"] = group["initial_lr"] * factor(scheduler.last_epoch)
