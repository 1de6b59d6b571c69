from __future__ import annotations

import time
from pathlib import Path

import torch
from mm_mhmoe_data.config import DataConfig
from mm_mhmoe_data.datamodules import RetrievalDataModule, VQADataModule
from mm_mhmoe_data.quarantine import QUARANTINE_FILE
from mm_mhmoe_data.recipes.answers import read_answers_file
from mm_mhmoe_data.tokenizer import TOKENIZER_FILE, Tokenizer
from mm_mhmoe_data.vqa_data import answer_vocabulary, read_vqa

from mm_mhmoe.commands.fast_dev_run import fast_dev_run
from mm_mhmoe.commands.run_dir import finish_run, open_run, provenance
from mm_mhmoe.commands.sources import at_image_size, data_path, encoder_of, own_shards
from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.models.checkpoints import load_encoder
from mm_mhmoe.models.tasks import RetrievalModel, VQAModel
from mm_mhmoe.training.modules import RetrievalModule, VQAModule
from mm_mhmoe.training.optim import OptimConfig
from mm_mhmoe.training.trainer import RunConfig, fit


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
    embed_dim: int = 256,
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
        init: model directory to take the encoder's weights from; without it the encoder starts from random weights.
        encoder: the encoder; without it, that of init.
        image_size: side of pictures, instead of the encoder's; init's positions are interpolated.
        shards: pairs to learn from: a folder, glob, list or address of .tar files, or demo:train.
        batch_size: pairs a step and process; the negatives of a pair are the others of all processes.
        embed_dim: width of the embeddings.
        min_scale: smallest part of a picture's area that a random crop keeps.
        data: sources and their weights, order, flips and colours, what may be unusable.
        run: seed, precision, devices, checkpoints, logs.
    """
    arguments, started = dict(locals()), time.monotonic()
    if run.fast_dev_run:
        fast_dev_run(retrieval, arguments)
        return
    if not open_run(out, "finetune retrieval", arguments):
        print(f"finetune retrieval: {out} is finished")
        return
    encoder = at_image_size(encoder or encoder_of(init), image_size)
    words = Tokenizer.load(tokenizer)
    words.check(encoder.text)
    torch.manual_seed(run.seed)
    model = RetrievalModel(encoder, embed_dim)
    if init is not None:
        load_encoder(init, model)
    loader = RetrievalDataModule(
        data_path(shards),
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
    module = RetrievalModule(model, optim, steps=steps)
    fit(module, loader, title="finetune retrieval", steps=steps, out=out, run=run, optim=optim)
    finish_run(
        model,
        out,
        provenance("finetune retrieval", arguments, wall_seconds=time.monotonic() - started),
        files={TOKENIZER_FILE: words.path},
    )


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
    arguments, started = dict(locals()), time.monotonic()
    if run.fast_dev_run:
        fast_dev_run(vqa, arguments)
        return
    if not open_run(out, "finetune vqa", arguments):
        print(f"finetune vqa: {out} is finished")
        return
    encoder = at_image_size(encoder or encoder_of(init), image_size)
    words = Tokenizer.load(tokenizer)
    words.check(encoder.text)
    examples = read_vqa(data_path(questions), data_path(annotations))
    if answers is None:
        vocabulary = answer_vocabulary(examples, min_count=min_answer_count)
    else:
        vocabulary = read_answers_file(Path(data_path(answers)))
    torch.manual_seed(run.seed)
    model = VQAModel(encoder, vocabulary)
    if init is not None:
        load_encoder(init, model)
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
    module = VQAModule(model, optim, steps=steps)
    fit(module, loader, title="finetune vqa", steps=steps, out=out, run=run, optim=optim)
    finish_run(
        model,
        out,
        provenance("finetune vqa", arguments, wall_seconds=time.monotonic() - started),
        files={TOKENIZER_FILE: words.path},
    )
