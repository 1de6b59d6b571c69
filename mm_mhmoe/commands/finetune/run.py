"""What every fine-tuning command does around its task."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from mm_mhmoe_data.datamodules import StepDataModule
from mm_mhmoe_data.tokenizer import TOKENIZER_FILE, Tokenizer

from mm_mhmoe.commands.fast_dev_run import fast_dev_run
from mm_mhmoe.commands.finetune.scoring import scoring
from mm_mhmoe.commands.run_dir import finish_run, open_run, provenance
from mm_mhmoe.commands.sources import at_image_size, encoder_of
from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.models.checkpoints import load_init
from mm_mhmoe.models.tasks import TaskModel
from mm_mhmoe.training.modules import RunModule
from mm_mhmoe.training.trainer import fit


def fine_tune(
    command: Callable[..., None],
    arguments: dict[str, Any],
    prepare: Callable[[EncoderConfig, Any], tuple[RunModule, StepDataModule]],
) -> None:
    """Fine-tunes in the run's directory, unless it is finished, and makes that a model directory.

    Args:
        command: the function of the task; its name is that of the task.
        arguments: of the command: out, tokenizer, optim, steps, init, encoder, image_size and run among them.
        prepare: makes the module around a new model with this encoder, and its batches, whose texts the tokenizer
            reads; that is None where the command takes pictures alone and was given none. The weights of init
            (encoder, and heads that mean the same) are copied in afterwards.
    """
    title, started = f"finetune {command.__name__}", time.monotonic()
    out, run, init = arguments["out"], arguments["run"], arguments["init"]
    if run.fast_dev_run:
        fast_dev_run(command, arguments)
        return
    if not open_run(out, title, arguments):
        print(f"{title}: {out} is finished")
        return
    encoder = at_image_size(arguments["encoder"] or encoder_of(init), arguments["image_size"])
    words = None if arguments["tokenizer"] is None else Tokenizer.load(arguments["tokenizer"])
    if words is not None:
        words.check(encoder.text)
    torch.manual_seed(run.seed)
    module, loader = prepare(encoder, words)
    model = module.model
    assert isinstance(model, TaskModel)
    if init is not None:
        load_init(init, model)
    fit(
        module,
        loader,
        title=title,
        steps=arguments["steps"],
        out=out,
        run=run,
        optim=arguments["optim"],
        callbacks=scoring(model, words, out, run),
    )
    made = provenance(title, arguments, wall_seconds=time.monotonic() - started)
    finish_run(model, out, made, files={} if words is None else {TOKENIZER_FILE: words.path})
