from __future__ import annotations

from pathlib import Path

from mm_mhmoe_data.config import DataConfig
from mm_mhmoe_data.datamodules import NLVR2DataModule
from mm_mhmoe_data.quarantine import QUARANTINE_FILE
from mm_mhmoe_data.statements import read_statements
from mm_mhmoe_data.tokenizer import Tokenizer

from mm_mhmoe.commands.finetune.run import fine_tune
from mm_mhmoe.commands.sources import data_path, own_shards
from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.models.tasks import NLVR2Model
from mm_mhmoe.training.modules import NLVR2Module
from mm_mhmoe.training.optim import OptimConfig
from mm_mhmoe.training.trainer import RunConfig


def nlvr2(
    out: Path,
    tokenizer: Path,
    optim: OptimConfig,
    steps: int,
    init: Path | None = None,
    encoder: EncoderConfig | None = None,
    image_size: int | None = None,
    shards: str = "demo:train",
    statements: str | None = None,
    batch_size: int = 128,
    min_scale: float = 0.5,
    data: DataConfig = DataConfig(),  # noqa: B008  (frozen)
    run: RunConfig = RunConfig(),  # noqa: B008  (frozen)
) -> None:
    """Fine-tunes a fusion encoder to tell whether a sentence is true of two pictures (NLVR2).

    Args:
        out: directory of the run; becomes the model directory.
        tokenizer: directory of the text tokenizer.
        optim: the optimiser.
        steps: training steps.
        init: model directory to take the encoder's weights from; without it the encoder starts from random weights.
        encoder: the encoder; without it, that of init.
        image_size: side of pictures, instead of the encoder's; init's positions are interpolated.
        shards: shards that data build nlvr2 wrote; or the pictures that the file of statements is about.
        statements: file of statements about pictures of the shards, as data build statements writes it.
        batch_size: statements a step and process, each with two pictures.
        min_scale: smallest part of a picture's area that a random crop keeps.
        data: sources and their weights, order, flips and colours, what may be unusable.
        run: seed, precision, devices, checkpoints, logs.
    """
    arguments = dict(locals())

    def prepare(encoder: EncoderConfig, words: Tokenizer) -> tuple[NLVR2Module, NLVR2DataModule]:
        loader = NLVR2DataModule(
            read_statements(data_path(shards), data_path(statements) if statements else None),
            words,
            encoder.vision,
            encoder.text,
            batch_size=batch_size,
            num_steps=steps * run.accumulate,
            seed=run.seed,
            workers=run.workers,
            min_scale=min_scale,
            data=own_shards(data),
            quarantine=out / QUARANTINE_FILE,
        )
        return NLVR2Module(NLVR2Model(encoder), optim, steps=steps), loader

    fine_tune(nlvr2, arguments, prepare)
