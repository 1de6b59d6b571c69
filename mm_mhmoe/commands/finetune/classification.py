from __future__ import annotations

from pathlib import Path

from mm_mhmoe_data.config import DataConfig
from mm_mhmoe_data.datamodules import ClassificationDataModule
from mm_mhmoe_data.labelled import read_labelled, read_names
from mm_mhmoe_data.quarantine import QUARANTINE_FILE
from mm_mhmoe_data.tokenizer import Tokenizer

from mm_mhmoe.commands.finetune.run import fine_tune
from mm_mhmoe.commands.sources import data_path, own_shards
from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.models.tasks import ClassificationModel
from mm_mhmoe.objectives.mixing import MixConfig
from mm_mhmoe.training.interrupted import is_first_process
from mm_mhmoe.training.modules import ClassificationModule
from mm_mhmoe.training.optim import OptimConfig
from mm_mhmoe.training.trainer import RunConfig


def classification(
    out: Path,
    optim: OptimConfig,
    steps: int,
    tokenizer: Path | None = None,
    init: Path | None = None,
    encoder: EncoderConfig | None = None,
    image_size: int | None = None,
    shards: str = "demo:train",
    label_field: str | None = None,
    classes: str | None = None,
    min_class_count: int = 1,
    batch_size: int = 128,
    min_scale: float = 0.08,
    mix: MixConfig = MixConfig(),  # noqa: B008  (frozen)
    data: DataConfig = DataConfig(),  # noqa: B008  (frozen)
    run: RunConfig = RunConfig(),  # noqa: B008  (frozen)
) -> None:
    """Fine-tunes an encoder to tell classes of pictures (mean state of the patches, mixed pictures).

    Args:
        out: directory of the run; becomes the model directory.
        optim: the optimiser.
        steps: training steps.
        tokenizer: directory of a text tokenizer to keep with the model; no text is read.
        init: model directory to take the encoder's weights from; without it the encoder starts from random weights.
        encoder: the encoder; without it, that of init.
        image_size: side of pictures, instead of the encoder's; init's positions are interpolated.
        shards: pictures with classes, such as data build imagenet writes, or a set in CLIP_benchmark's layout.
        label_field: field of KEY.json that says the class (category in the demo's); none: KEY.cls holds its number.
        classes: file of class names, one a line. Without it: those of the field, or classnames.txt beside the splits.
        min_class_count: a value of label_field is a class if at least so many pictures have it.
        batch_size: pictures a step and process; even, where pictures are mixed.
        min_scale: smallest part of a picture's area that a random crop keeps.
        mix: mixup, cutmix, random erasing, label smoothing.
        data: sources and their weights, order, flips and colours, what may be unusable.
        run: seed, precision, devices, checkpoints, logs.
    """
    arguments = dict(locals())

    def prepare(
        encoder: EncoderConfig, words: Tokenizer | None
    ) -> tuple[ClassificationModule, ClassificationDataModule]:
        named = read_names(data_path(classes)) if classes else None
        labelled = read_labelled(data_path(shards), field=label_field, classes=named, min_count=min_class_count)
        if is_first_process():
            left_out = f"; {labelled.left_out:,} have no class" if labelled.left_out else ""
            print(f"data: {len(labelled):,} pictures of {len(labelled.classes):,} classes{left_out}")
        loader = ClassificationDataModule(
            labelled,
            encoder.vision,
            batch_size=batch_size,
            num_steps=steps * run.accumulate,
            seed=run.seed,
            workers=run.workers,
            min_scale=min_scale,
            data=own_shards(data),
            quarantine=out / QUARANTINE_FILE,
        )
        return ClassificationModule(ClassificationModel(encoder, labelled.classes), optim, mix, steps=steps), loader

    fine_tune(classification, arguments, prepare)
