"""Steps on random data, as a Workload says: of pretraining, with exactly as many masked positions, and of language
models."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from mm_mhmoe.analysis.workload import Workload
from mm_mhmoe.batch import Images, ImageTextBatch, PretrainBatch, Texts
from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.models.encoder import LayerRouting
from mm_mhmoe.models.tasks import LanguageModel, PretrainModel
from mm_mhmoe.objectives.language import next_token_loss
from mm_mhmoe.objectives.masked import PictureTarget, masked_losses
from mm_mhmoe.objectives.pairs import PairObjectives, pair_losses, pair_streams
from mm_mhmoe.objectives.picture_targets import CodeTarget
from mm_mhmoe.objectives.sparse import auxiliary_losses


def _images(config: EncoderConfig, rows: int, share: float) -> Images:
    patches, side = config.vision.num_patches, config.vision.image_size
    masked = torch.zeros(rows, patches, dtype=torch.bool)
    masked[:, : round(share * patches)] = True
    return Images(pixels_BCHW=torch.rand(rows, 3, side, side) * 2 - 1, masked_BN=masked)


def _texts(config: EncoderConfig, rows: int, share: float) -> Texts:
    length = config.text.max_length
    masked = torch.zeros(rows, length, dtype=torch.bool)
    masked[:, 1 : 1 + max(1, round(share * (length - 2)))] = True
    ids = torch.randint(5, config.text.vocab_size, (rows, length))
    return Texts(ids_BL=ids, valid_BL=torch.ones(rows, length, dtype=torch.bool), masked_BL=masked)


def run_step(
    config: EncoderConfig, work: Workload, model: PretrainModel, target: PictureTarget | None = None
) -> tuple[torch.Tensor, tuple[LayerRouting, ...]]:
    """The loss of one step, balance and z-loss included, and the routing, which a step gives back."""
    images = texts = pairs = None
    if work.batch_images:
        images = ImageTextBatch(images=_images(config, work.batch_images, work.image_mask))
    if work.batch_texts:
        texts = ImageTextBatch(texts=_texts(config, work.batch_texts, work.text_mask))
    if work.batch_pairs:
        pairs = ImageTextBatch(
            images=_images(config, work.batch_pairs, work.pair_image_mask),
            texts=_texts(config, work.batch_pairs, work.pair_text_mask),
        )

    def codes(pixels_BCHW: torch.Tensor) -> torch.Tensor:
        return torch.randint(0, model.num_codes, (len(pixels_BCHW), config.vision.num_patches))

    objectives = PairObjectives(caption=work.caption_loss, contrastive=work.contrastive_loss, itm=work.itm_loss)
    extra = pair_streams(pairs, objectives)
    losses, output = masked_losses(
        model,
        target or CodeTarget(SimpleNamespace(codes=codes)),
        PretrainBatch(images=images, texts=texts, pairs=pairs),
        from_cls=work.cls_loss,
        extra=extra,
    )
    losses |= pair_losses(model, pairs, output.streams[len(output.streams) - len(extra) :], objectives)
    auxiliary = auxiliary_losses(output.routing, config.moe)
    loss = torch.stack([part.loss for part in losses.values()] + list(auxiliary.values())).sum()
    return loss, output.routing_only().routing


@pytest.fixture(scope="session")
def pretraining_step() -> Callable[..., tuple[torch.Tensor, tuple[LayerRouting, ...]]]:
    """run_step(config, work, model): the loss of one step, and its routing."""
    return run_step


def run_language_step(
    config: EncoderConfig, work: Workload, model: LanguageModel
) -> tuple[torch.Tensor, tuple[LayerRouting, ...]]:
    """The loss of one step of a language model, balance and z-loss included, and its routing."""
    texts = _texts(config, work.sequences, 0.0)
    texts = Texts(ids_BL=texts.ids_BL, valid_BL=texts.valid_BL)
    states_BLD, output = model(texts)
    found = next_token_loss(states_BLD, texts, model.head, bos_id=config.text.bos_id)
    loss = torch.stack([found.loss, *auxiliary_losses(output.routing, config.moe).values()]).sum()
    return loss, output.routing_only().routing


@pytest.fixture(scope="session")
def language_step() -> Callable[..., tuple[torch.Tensor, tuple[LayerRouting, ...]]]:
    """run_language_step(config, work, model): the loss of one step, and its routing."""
    return run_language_step
