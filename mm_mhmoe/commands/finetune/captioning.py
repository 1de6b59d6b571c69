from __future__ import annotations

from pathlib import Path

from mm_mhmoe_data.config import DataConfig
from mm_mhmoe_data.datamodules import PairDataModule
from mm_mhmoe_data.quarantine import QUARANTINE_FILE
from mm_mhmoe_data.tokenizer import Tokenizer

from mm_mhmoe.commands.finetune.run import fine_tune
from mm_mhmoe.commands.sources import data_path, own_shards
from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.models.beam_search import SearchOptions
from mm_mhmoe.models.tasks import CaptionModel
from mm_mhmoe.training.modules import CaptionModule
from mm_mhmoe.training.optim import OptimConfig
from mm_mhmoe.training.trainer import RunConfig


def captioning(
    out: Path,
    tokenizer: Path,
    optim: OptimConfig,
    steps: int,
    init: Path | None = None,
    encoder: EncoderConfig | None = None,
    image_size: int | None = None,
    shards: str = "demo:train",
    batch_size: int = 256,
    min_scale: float = 0.5,
    text_mask: float = 0.7,
    smoothing: float = 0.1,
    drop_worst: float = 0.2,
    drop_worst_after: int = 12_000,
    search: SearchOptions = SearchOptions(),  # noqa: B008  (frozen)
    data: DataConfig = DataConfig(),  # noqa: B008  (frozen)
    run: RunConfig = RunConfig(),  # noqa: B008  (frozen)
) -> None:
    """Fine-tunes an encoder to write captions (BEiT-3: hidden words, told from the picture and the words before them).

    Args:
        out: directory of the run; becomes the model directory.
        tokenizer: directory of the text tokenizer.
        optim: the optimiser.
        steps: training steps.
        init: model directory to take the encoder's weights from, and of a pretrained model the head over word pieces;
            without it all weights start at random.
        encoder: the encoder; without it, that of init.
        image_size: side of pictures, instead of the encoder's; init's positions are interpolated.
        shards: pairs to learn from: a folder, glob, list or address of .tar files, or demo:train.
        batch_size: pairs a step and process.
        min_scale: smallest part of a picture's area that a random crop keeps.
        text_mask: share of a caption's tokens, the end token among them, that is hidden.
        smoothing: share of the target that goes to all other word pieces.
        drop_worst: share of the hidden words of a batch, those with the largest loss, that is left out.
        drop_worst_after: from this step on.
        search: how the model looks for captions when it is evaluated; kept in its config.json.
        data: sources and their weights, order, flips and colours, what may be unusable.
        run: seed, precision, devices, checkpoints, logs.
    """
    arguments = dict(locals())
    for name, share, least in (
        ("text_mask", text_mask, 0.01),
        ("smoothing", smoothing, 0.0),
        ("drop_worst", drop_worst, 0.0),
    ):
        if not least <= share < 1:
            raise ValueError(f"{name}={share} must lie in [{least:g}, 1)")

    def prepare(encoder: EncoderConfig, words: Tokenizer) -> tuple[CaptionModule, PairDataModule]:
        loader = PairDataModule(
            data_path(shards),
            words,
            encoder.vision,
            encoder.text,
            task="captioning",
            batch_size=batch_size,
            num_steps=steps * run.accumulate,
            seed=run.seed,
            workers=run.workers,
            min_scale=min_scale,
            text_mask=text_mask,
            data=own_shards(data),
            quarantine=out / QUARANTINE_FILE,
        )
        module = CaptionModule(
            CaptionModel(encoder, search),
            optim,
            steps=steps,
            smoothing=smoothing,
            drop_worst=drop_worst,
            drop_worst_after=drop_worst_after,
        )
        return module, loader

    fine_tune(captioning, arguments, prepare)
