"""A Lightning trainer with this project's habits."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from mm_mhmoe.training.apply import checkpoint_blocks, compile_blocks, encoders
from mm_mhmoe.training.averaging import averaging
from mm_mhmoe.training.callbacks import Checkpoints, StepSeed, StopOnSignal
from mm_mhmoe.training.checkpoint_io import AtomicCheckpointIO
from mm_mhmoe.training.freezing import freeze
from mm_mhmoe.training.gradient_guard import GradientGuard
from mm_mhmoe.training.health_log import HealthLog
from mm_mhmoe.training.interrupted import Interrupted
from mm_mhmoe.training.modules.run import RunModule
from mm_mhmoe.training.optim import OptimConfig
from mm_mhmoe.training.progress import StepProgress
from mm_mhmoe.training.resuming import OwnSettings, find_start
from mm_mhmoe.training.routing_log import RoutingLog
from mm_mhmoe.training.run_warnings import WARNINGS, RunWarnings
from mm_mhmoe.training.text_lengths import TextLengths
from mm_mhmoe.training.throughput import Utilisation

Resolved = Literal["bf16-mixed", "16-mixed", "32-true"]
Precision = Literal["auto", "bf16-mixed", "16-mixed", "32-true"]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How a run is carried out.

    Args:
        seed: of weights, data order, masks and dropout.
        precision: auto is bf16-mixed where the device computes in bf16, 32-true elsewhere. 16-mixed is for GPUs; on a
            CPU it is bf16-mixed.
        accelerator: cpu, gpu, or auto for what is there.
        devices: processes on this machine.
        num_nodes: machines.
        accumulate: batches whose gradients are added up before a step.
        checkpoint_every: steps between checkpoints; a stopped run goes on from the last one.
        log_every: steps between two rows of the CSV and TensorBoard logs.
        routing_every: steps between two rows of routing statistics (routing/...) in the logs, and one for the first
            step; 0: none.
        workers: processes that read data; 0 reads in the training process.
        threads: CPU threads of torch; 0 leaves torch's own choice.
        activation_checkpointing: blocks computes every block again in the backward pass and keeps only what goes into
            it: much less memory for about a third more work, and the same numbers. none: keeps everything.
        compile: torch.compile of every block; slow first steps. It gains on GPUs, hardly on CPUs.
        resume: latest goes on from the newest good checkpoint in the run's directory, if there is one; never refuses to
            run where one is; the path of another run's checkpoint (step_XXXXXXXX.ckpt) starts there, with this run's
            own settings of the optimiser, and goes on from own checkpoints once there are some.
        fast_dev_run: only tries out whether everything runs: 2 steps and 1 batch of validation in a directory that is
            thrown away.
        val_batches: batches of a validation; 0: all.
        max_skipped: steps in a row that may be skipped because a loss or gradient is not finite; the next one ends the
            run (10: the 11th in a row).
        eval_tasks: tasks of mm-mhmoe eval (names or .yaml files) that a fine-tuning is scored on while it runs.
        eval_every: steps between two such scores, and one at the end; 0: none.
        eval_data_dir: directory that the paths of eval_tasks start from; null: the shipped demo data.
    """

    seed: int = 0
    precision: Precision = "auto"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = 1
    num_nodes: int = 1
    accumulate: int = 1
    checkpoint_every: int = 500
    log_every: int = 10
    routing_every: int = 20
    workers: int = 0
    threads: int = 0
    activation_checkpointing: Literal["none", "blocks"] = "none"
    compile: bool = False
    resume: str = "latest"
    fast_dev_run: bool = False
    val_batches: int = 0
    max_skipped: int = 10
    eval_tasks: list[str] = field(default_factory=list)
    eval_every: int = 0
    eval_data_dir: str | None = None

    def __post_init__(self) -> None:
        if "://" in self.resume:
            raise ValueError(f"run.resume={self.resume} is an address; checkpoints are read from local files only")
        ones = ("devices", "num_nodes", "accumulate", "checkpoint_every", "log_every")
        noughts = ("routing_every", "workers", "threads", "val_batches", "max_skipped", "eval_every")
        for name in (*ones, *noughts):
            lowest = int(name in ones)
            if getattr(self, name) < lowest:
                raise ValueError(f"run.{name}={getattr(self, name)} must be {lowest} or more")
        if bool(self.eval_tasks) != bool(self.eval_every):
            raise ValueError(
                f"run.eval_tasks={','.join(self.eval_tasks) or 'none'} and run.eval_every={self.eval_every} need each "
                "other: say what to score and after how many steps"
            )


def choose_precision(precision: Precision, accelerator: str) -> Resolved:
    """What a device computes in. A CPU computes in bf16 when it has the AVX512-BF16 or AMX instructions.

    On a CPU 16-mixed is bf16-mixed, as Lightning would have it: a CPU hardly multiplies in fp16.
    """
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    if precision == "16-mixed" and not on_gpu:
        return "bf16-mixed"
    if precision != "auto":
        return precision
    if on_gpu:
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16-mixed" if has_bf16 else "32-true"


def fit(
    module: RunModule,
    data: L.LightningDataModule,
    *,
    title: str,
    steps: int,
    out: Path,
    run: RunConfig,
    optim: OptimConfig,
    callbacks: Sequence[L.Callback] = (),
) -> L.Trainer:
    """Trains for `steps` steps, from where `run.resume` says.

    Args:
        out: the run's directory; checkpoints/ and logs/ are made in it.
        callbacks: what else happens around steps.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; the checkpoint is written.
        ValueError: the machine lacks what `run` asks for, `run.resume` does not fit, the model has not what
            `optim.freeze` names, or too many steps in a row had to be skipped.
    """
    if steps < 0:
        raise ValueError(f"steps={steps} must be 0 or more")
    quiet()
    if run.threads:
        torch.set_num_threads(run.threads)
    for encoder in encoders(module):
        if run.activation_checkpointing == "blocks":
            checkpoint_blocks(encoder)
        if run.compile:
            compile_blocks(encoder)
    freeze(module, optim.freeze)
    start = find_start(out, run.resume, module, steps=steps, accumulate=run.accumulate)
    checkpoints = Checkpoints(out / "checkpoints", every=run.checkpoint_every)
    stop = StopOnSignal(checkpoints)
    warn = RunWarnings(out / "logs" / WARNINGS)
    guard = GradientGuard(out, warn, clip_norm=optim.clip_norm, max_skipped=run.max_skipped)
    part = f"from_step_{start.step:08d}"
    loggers = [
        CSVLogger(out / "logs", name="csv", version=part, flush_logs_every_n_steps=run.log_every),
        TensorBoardLogger(out / "logs", name="tensorboard", version=part),
    ]
    trainer = _trainer(
        run,
        max_steps=steps,
        precision=choose_precision(run.precision, run.accelerator),
        accumulate_grad_batches=run.accumulate,
        log_every_n_steps=run.log_every,
        logger=loggers,
        callbacks=[
            StepSeed(run.seed),
            guard,
            RoutingLog(warn, every=run.routing_every),
            HealthLog(guard, warn),
            TextLengths(warn),
            Utilisation(every=run.log_every),
            *averaging(optim.ema_decay, guard),
            checkpoints,
            stop,
            *([OwnSettings()] if start.elsewhere else []),
            StepProgress(title, steps),
            *callbacks,
        ],
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        check_val_every_n_epoch=2,  # a run is one epoch: the command validates when it is over
        num_sanity_val_steps=0,
        limit_val_batches=run.val_batches or 1.0,
        use_distributed_sampler=False,
        default_root_dir=out,
    )
    trainer.fit(module, data, ckpt_path=start.checkpoint, weights_only=True)
    if stop.requested:
        raise Interrupted(stop.saved, trainer.global_step)
    return trainer


def _trainer(run: RunConfig, **options: Any) -> L.Trainer:
    # No step uses every parameter: a mask token without masks, the text table without texts.
    many = run.devices * run.num_nodes > 1
    try:
        return L.Trainer(
            accelerator=run.accelerator,
            devices=run.devices,
            num_nodes=run.num_nodes,
            strategy="ddp_find_unused_parameters_true" if many else "auto",
            **options,
        )
    except MisconfigurationException as error:
        raise ValueError(
            f"run.accelerator={run.accelerator}, run.devices={run.devices}: {error}; see mm-mhmoe env"
        ) from error


def quiet() -> None:
    """Lightning's advice and banners are for its own users, not for ours."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ.setdefault("LIGHTNING_DISABLE_TIPS", "1")
    for message in (
        r".*does not have many workers.*",
        r".*treespec, LeafSpec.*",
        r".*srun.*",
        r".*litlogger.*",
        r".*module\(s\) in eval mode.*",  # the frozen visual tokenizer
        r".*smaller than the logging interval.*",
        r".*Total length of .* is zero.*",
        r".*find_unused_parameters=True.*",
        r".*dataloader is not resumable.*",  # it is: the data module keeps the step
    ):
        warnings.filterwarnings("ignore", message=message)
