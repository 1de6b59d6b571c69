from __future__ import annotations

import time
from pathlib import Path

import torch
from mm_mhmoe_data.datamodules import LanguageDataModule
from mm_mhmoe_data.tokenizer import TOKENIZER_FILE, Tokenizer

from mm_mhmoe.commands.fast_dev_run import fast_dev_run
from mm_mhmoe.commands.run_dir import finish_run, open_run, provenance
from mm_mhmoe.commands.sources import data_path, encoder_of
from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.models.checkpoints import load_encoder
from mm_mhmoe.models.tasks import LanguageModel
from mm_mhmoe.training.modules import LanguageModule
from mm_mhmoe.training.optim import OptimConfig
from mm_mhmoe.training.trainer import RunConfig, fit


def lm(
    out: Path,
    tokenizer: Path,
    optim: OptimConfig,
    steps: int,
    shards: str,
    init: Path | None = None,
    encoder: EncoderConfig | None = None,
    val_shards: str | None = None,
    batch_size: int = 256,
    languages: list[str] | None = None,
    language_exponent: float = 0.7,
    documents_apart: bool = True,
    run: RunConfig = RunConfig(),  # noqa: B008  (frozen)
) -> None:
    """Trains a language model (decoder) on texts of one or several languages, with dense, MoE or MH-MoE FFNs.

    Args:
        out: directory of the run; becomes the model directory.
        tokenizer: directory of the text tokenizer (mm-mhmoe tokenizer train --language_exponent).
        optim: the optimiser.
        steps: training steps.
        shards: texts as data build text and debian-handbook write them: a folder, glob, list or address of .tar files,
            several joined by ::.
        init: language model to start from; without it all weights are random.
        encoder: the blocks, with pictures=false; sequences are text.max_length tokens long. Without it, those of init.
        val_shards: held-out texts; their loss is logged at the end, also by language.
        batch_size: sequences a step and process.
        languages: only those ('[en-US,fr-FR]'), as the samples' .json name them; all by default.
        language_exponent: languages are drawn with shares p^exponent of their tokens' shares p: 1 as there is, 0 all
            alike; 0.7 as XLM's training (arXiv 1901.07291).
        documents_apart: no token sees another document that is packed into its sequence.
        run: seed, precision, devices, checkpoints, logs.
    """
    arguments, started = dict(locals()), time.monotonic()
    if run.fast_dev_run:
        fast_dev_run(lm, arguments)
        return
    if not open_run(out, "lm", arguments):
        print(f"lm: {out} is finished")
        return
    encoder = encoder or encoder_of(init)
    words = Tokenizer.load(tokenizer)
    words.check(encoder.text)
    torch.manual_seed(run.seed)
    model = LanguageModel(encoder)
    if init is not None:
        load_encoder(init, model)
    loader = LanguageDataModule(
        data_path(shards),
        words,
        encoder.text,
        batch_size=batch_size,
        num_steps=steps * run.accumulate,
        seed=run.seed,
        workers=run.workers,
        languages=languages,
        exponent=language_exponent,
        documents_apart=documents_apart,
        val_shards=data_path(val_shards) if val_shards else None,
    )
    module = LanguageModule(model, optim, steps=steps)
    trainer = fit(module, loader, title="lm", steps=steps, out=out, run=run, optim=optim)
    if val_shards is not None:
        trainer.validate(module, loader, verbose=False)
    finish_run(
        model,
        out,
        provenance("lm", arguments, wall_seconds=time.monotonic() - started),
        files={TOKENIZER_FILE: words.path},
    )
