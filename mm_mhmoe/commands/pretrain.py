from __future__ import annotations

import time
from pathlib import Path

import torch
from mm_mhmoe_data.cached_codes import code_recipe
from mm_mhmoe_data.config import DataConfig
from mm_mhmoe_data.datamodules import PretrainDataModule
from mm_mhmoe_data.quarantine import QUARANTINE_FILE
from mm_mhmoe_data.tokenizer import TOKENIZER_FILE, Tokenizer

from mm_mhmoe.commands.fast_dev_run import fast_dev_run
from mm_mhmoe.commands.picture_target import picture_target
from mm_mhmoe.commands.run_dir import finish_run, open_run, provenance
from mm_mhmoe.commands.sources import data_path, encoder_of, own_shards
from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.models.checkpoints import load_pretrained
from mm_mhmoe.models.image_target import Kind
from mm_mhmoe.models.tasks import PretrainModel
from mm_mhmoe.objectives.pairs import PairObjectives
from mm_mhmoe.objectives.picture_targets import FeatureLoss
from mm_mhmoe.training.modules import PretrainModule
from mm_mhmoe.training.optim import OptimConfig
from mm_mhmoe.training.trainer import RunConfig, choose_precision, fit


def pretrain(
    out: Path,
    tokenizer: Path,
    optim: OptimConfig,
    steps: int,
    visual_tokenizer: Path | None = None,
    image_target: Kind = "codes",
    teacher: str | None = None,
    feature_loss: FeatureLoss = "cosine",
    init: Path | None = None,
    encoder: EncoderConfig | None = None,
    shards: str = "demo:train",
    val_shards: str | None = None,
    batch_images: int = 2048,
    batch_texts: int = 2048,
    batch_pairs: int = 2048,
    image_mask: float = 0.4,
    text_mask: float = 0.15,
    pair_image_mask: float = 0.4,
    pair_text_mask: float = 0.5,
    min_scale: float = 0.5,
    cls_loss: bool = False,
    caption_loss: bool = False,
    contrastive_loss: bool = False,
    itm_loss: bool = False,
    embed_dim: int = 256,
    loss_weights: dict[str, float] | None = None,
    data: DataConfig = DataConfig(),  # noqa: B008  (frozen)
    run: RunConfig = RunConfig(),  # noqa: B008  (frozen)
) -> None:
    """Masked pretraining of an encoder on pictures, texts and pairs (BEiT-3), with dense, MoE or MH-MoE FFNs.

    Args:
        out: directory of the run; becomes the model directory.
        tokenizer: directory of the text tokenizer (mm-mhmoe tokenizer train).
        optim: the optimiser.
        steps: training steps.
        visual_tokenizer: directory of the visual tokenizer (mm-mhmoe vqkd), for image_target=codes.
        image_target: what hidden patches are predicted as: codes of the visual tokenizer (BEiT-3), pixels (of each
            patch normalised, as MAE), or features of a teacher.
        teacher: for image_target=features: pixels, hog, timm:NAME, open_clip:ARCH/TAG, or local-dir:DIR
            (docs/TOKENIZER.md).
        feature_loss: cosine (1 - cosine) or smooth_l1 (of features normalised patch by patch).
        init: model directory to start from: its encoder, and its heads if it is a pretraining model with the same
            image_target of the same visual_tokenizer or teacher; without it, random weights.
        encoder: the encoder; without it, that of init.
        shards: pairs to learn from: a folder, glob, list or address of .tar files, or demo:train.
        val_shards: held-out pairs for the masked losses at the end, under fixed masks.
        batch_images: pictures of a step and process, in the picture stream; 0: no such stream.
        batch_texts: texts of a step, in the text stream; 0: no such stream.
        batch_pairs: pairs of a step, in the pair stream; 0: no such stream.
        image_mask: share of the patches that are hidden in the picture stream (data.image_mask_kind says which).
        text_mask: share of the tokens that are hidden in the text stream.
        pair_image_mask: share of the patches that are hidden in pairs.
        pair_text_mask: share of the tokens that are hidden in pairs.
        min_scale: smallest part of a picture's area that a random crop keeps.
        cls_loss: also predict what is hidden from the row's [CLS] alone, so that pretraining trains it (not BEiT-3).
        caption_loss: also write the texts of pairs from left to right, seeing the picture (not BEiT-3).
        contrastive_loss: also tell a pair's text from the step's other texts, and its picture from the other pictures,
            by the [CLS] of both alone (not BEiT-3).
        itm_loss: also tell pairs from pictures with a similar picture's text, as VLMo; needs contrastive_loss.
        embed_dim: width of the embeddings that contrastive_loss compares.
        loss_weights: of the losses images, texts, pairs_image, pairs_text, pairs_caption, pairs_contrastive, pairs_itm,
            and with cls_loss of the first four with _cls behind; 1 where absent (not published by BEiT-3; VLMo
            weighs its losses alike).
        data: sources and their weights, order, flips and colours, what may be unusable.
        run: seed, precision, devices, checkpoints, logs.
    """
    arguments, started = dict(locals()), time.monotonic()
    if run.fast_dev_run:
        fast_dev_run(pretrain, arguments)
        return
    objectives = PairObjectives(caption=caption_loss, contrastive=contrastive_loss, itm=itm_loss)
    if (caption_loss or contrastive_loss) and batch_pairs < 2:
        raise ValueError(
            f"caption_loss, contrastive_loss and itm_loss learn from pairs, but batch_pairs={batch_pairs}; "
            "set it to 2 or more"
        )
    rows = {"images": batch_images, "texts": batch_texts, "pairs": batch_pairs}
    for name in loss_weights or {}:
        stream = name.partition("_")[0]
        if rows.get(stream) == 0:
            raise ValueError(
                f"loss_weights: {name} is no loss of this run, because batch_{stream}=0; leave one of them out"
            )
    if not open_run(out, "pretrain", arguments):
        print(f"pretrain: {out} is finished")
        return
    encoder = encoder or encoder_of(init)
    if cls_loss and not encoder.image_positions and (batch_images or batch_pairs):
        raise ValueError(
            "cls_loss=true needs the positions of hidden patches, but encoder.image_positions=false; change one of them"
        )
    words = Tokenizer.load(tokenizer)
    words.check(encoder.text)
    target, meaning = picture_target(
        image_target, encoder.vision, visual_tokenizer=visual_tokenizer, teacher=teacher, feature_loss=feature_loss
    )
    codes = None
    if data.codes is not None:
        if visual_tokenizer is None or meaning.kind != "codes":
            raise ValueError(f"data.codes={data.codes} is for image_target=codes; here it is {image_target}")
        codes = code_recipe(
            data,
            tokenizer=meaning.source,
            precision=choose_precision(run.precision, run.accelerator),
            image_size=encoder.vision.image_size,
            min_scale=min_scale,
            seed=run.seed,
        )
    torch.manual_seed(run.seed)
    model = PretrainModel(encoder, target.outputs, meaning, embed_dim=embed_dim if contrastive_loss else None)
    if init is not None:
        load_pretrained(init, model)
    loader = PretrainDataModule(
        data_path(shards),
        words,
        encoder.vision,
        encoder.text,
        batch_images=batch_images,
        batch_texts=batch_texts,
        batch_pairs=batch_pairs,
        num_steps=steps * run.accumulate,
        accumulate=run.accumulate,
        seed=run.seed,
        workers=run.workers,
        image_mask=image_mask,
        text_mask=text_mask,
        pair_image_mask=pair_image_mask,
        pair_text_mask=pair_text_mask,
        min_scale=min_scale,
        data=own_shards(data),
        quarantine=out / QUARANTINE_FILE,
        val_shards=data_path(val_shards) if val_shards else None,
        codes=codes,
    )
    module = PretrainModule(
        model, target, optim, steps=steps, loss_weights=loss_weights, from_cls=cls_loss, objectives=objectives
    )
    trainer = fit(module, loader, title="pretrain", steps=steps, out=out, run=run, optim=optim)
    if val_shards is not None:
        trainer.validate(module, loader, verbose=False)
    finish_run(
        model,
        out,
        provenance("pretrain", arguments, wall_seconds=time.monotonic() - started),
        files={TOKENIZER_FILE: words.path},
    )
