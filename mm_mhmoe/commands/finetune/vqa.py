from __future__ import annotations

from pathlib import Path

from mm_mhmoe_data.config import DataConfig
from mm_mhmoe_data.datamodules import VQADataModule
from mm_mhmoe_data.quarantine import QUARANTINE_FILE
from mm_mhmoe_data.recipes.answers import read_answers_file
from mm_mhmoe_data.tokenizer import Tokenizer
from mm_mhmoe_data.vqa_data import answer_vocabulary, read_vqa

from mm_mhmoe.commands.finetune.run import fine_tune
from mm_mhmoe.commands.sources import data_path, own_shards
from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.models.tasks import VQAModel
from mm_mhmoe.training.modules import VQAModule
from mm_mhmoe.training.optim import OptimConfig
from mm_mhmoe.training.trainer import RunConfig


def vqa(
    out: Path,
    tokenizer: Path,
    optim: OptimConfig,
    steps: int,
    init: Path | None = None,
    encoder: EncoderConfig | None = None,
    image_size: int | None = None,
    shards: str = "demo:train",
    questions: str = "demo:vqa/train_questions.json",
    annotations: str = "demo:vqa/train_annotations.json",
    answers: str | None = None,
    min_answer_count: int = 9,
    batch_size: int = 128,
    min_scale: float = 0.8,
    data: DataConfig = DataConfig(),  # noqa: B008  (frozen)
    run: RunConfig = RunConfig(),  # noqa: B008  (frozen)
) -> None:
    """Fine-tunes a fusion encoder to answer questions about pictures (soft-target BCE over an answer vocabulary).

    Args:
        out: directory of the run; becomes the model directory.
        tokenizer: directory of the text tokenizer.
        optim: the optimiser.
        steps: training steps.
        init: model directory to take the encoder's weights from; without it the encoder starts from random weights.
        encoder: the encoder; without it, that of init.
        image_size: side of pictures, instead of the encoder's; init's positions are interpolated.
        shards: the pictures of the questions, or demo:train.
        questions: VQAv2 questions file.
        annotations: VQAv2 annotations file.
        answers: file of the answers to choose from (answer2label.txt, as data build vqav2 writes it); none: they are
            counted in the annotations.
        min_answer_count: an answer is in the vocabulary if it is the answer of at least so many questions (BEiT-3: 9).
        batch_size: questions a step and process.
        min_scale: smallest part of a picture's area that a random crop keeps.
        data: sources and their weights, order, flips and colours, what may be unusable.
        run: seed, precision, devices, checkpoints, logs.
    """
    arguments = dict(locals())

    def prepare(encoder: EncoderConfig, words: Tokenizer) -> tuple[VQAModule, VQADataModule]:
        examples = read_vqa(data_path(questions), data_path(annotations))
        if answers is None:
            vocabulary = answer_vocabulary(examples, min_count=min_answer_count)
        else:
            vocabulary = read_answers_file(Path(data_path(answers)))
        loader = VQADataModule(
            data_path(shards),
            examples,
            vocabulary,
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
        return VQAModule(VQAModel(encoder, vocabulary), optim, steps=steps), loader

    fine_tune(vqa, arguments, prepare)
