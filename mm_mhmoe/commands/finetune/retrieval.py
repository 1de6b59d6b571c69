from __future__ import annotations

from pathlib import Path

from mm_mhmoe_data.config import DataConfig
from mm_mhmoe_data.datamodules import PairDataModule
from mm_mhmoe_data.quarantine import QUARANTINE_FILE
from mm_mhmoe_data.tokenizer import Tokenizer

from mm_mhmoe.commands.finetune.run import fine_tune
from mm_mhmoe.commands.sources import data_path, own_shards
from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.models.tasks import RetrievalModel
from mm_mhmoe.training.modules import RetrievalModule
from mm_mhmoe.training.optim import OptimConfig
from mm_mhmoe.training.trainer import RunConfig


def retrieval(
    out: Path,
    tokenizer: Path,
    optim: OptimConfig,
    steps: int,
    init: Path | None = None,
    encoder: EncoderConfig | None = None,
    image_size: int | None = None,
    shards: str = "demo:train",
    batch_size: int = 256,
    chunk: int | None = None,
    embed_dim: int = 256,
    match: bool = False,
    min_scale: float = 0.5,
    data: DataConfig = DataConfig(),  # noqa: B008  (frozen)
    run: RunConfig = RunConfig(),  # noqa: B008  (frozen)
) -> None:
    """Fine-tunes a dual encoder for image-text retrieval (InfoNCE on both [CLS] states).

    Args:
        out: directory of the run; becomes the model directory.
        tokenizer: directory of the text tokenizer.
        optim: the optimiser.
        steps: training steps.
        init: model directory to take the weights from: the encoder's, and of a retrieval model, or one pretrained with
            contrastive_loss, those of heads of the same embed_dim; without it all start from random weights.
        encoder: the encoder; without it, that of init.
        image_size: side of pictures, instead of the encoder's; init's positions are interpolated.
        shards: pairs to learn from: a folder, glob, list or address of .tar files, or demo:train.
        batch_size: pairs a step and process; the negatives of a pair are the others of all processes.
        chunk: pairs whose graph is kept at a time, to fit a large batch on a small device: the same gradients in the
            memory of so many pairs, for one more forward pass. None: all of the batch.
        embed_dim: width of the embeddings.
        match: also learns whether a picture and a text belong together when both are read as one row, with hard
            negatives of the batch; evaluation can then re-rank the best candidates (rerank in a task's options).
        min_scale: smallest part of a picture's area that a random crop keeps.
        data: sources and their weights, order, flips and colours, what may be unusable.
        run: seed, precision, devices, checkpoints, logs.
    """
    arguments = dict(locals())
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk={chunk} must be 1 or more pairs, or left out")

    def prepare(encoder: EncoderConfig, words: Tokenizer) -> tuple[RetrievalModule, PairDataModule]:
        loader = PairDataModule(
            data_path(shards),
            words,
            encoder.vision,
            encoder.text,
            task="retrieval",
            batch_size=batch_size,
            num_steps=steps * run.accumulate,
            seed=run.seed,
            workers=run.workers,
            min_scale=min_scale,
            data=own_shards(data),
            quarantine=out / QUARANTINE_FILE,
        )
        model = RetrievalModel(encoder, embed_dim, match=match)
        return RetrievalModule(model, optim, steps=steps, chunk=chunk), loader

    fine_tune(retrieval, arguments, prepare)
