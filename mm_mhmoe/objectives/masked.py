"""Masked data modelling on pictures, texts and pairs, as BEiT-3 (arXiv 2208.10442) pretrains.

Shapes: B batch, N patches, L text length, D model dim, M masked positions, V classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mm_mhmoe.batch import ImageTextBatch, PretrainBatch
from mm_mhmoe.models.encoder import EncoderOutput, StreamStates
from mm_mhmoe.models.tasks import PretrainModel

_GRANULE = 64
STREAMS = ("images", "texts", "pairs")


class MaskedLoss(NamedTuple):
    """Mean cross-entropy (nats) over `positions` masked positions, of which `correct` were predicted right."""

    loss: Tensor
    positions: int
    correct: Tensor


def masked_cross_entropy(
    states_BLD: Tensor, masked_BL: Tensor, targets_BL: Tensor, head: Callable[[Tensor], Tensor]
) -> MaskedLoss:
    """Applies `head` at masked positions only, so that no logits of a whole sequence exist. No mask: a loss of zero."""
    states_MD, targets_M = states_BLD[masked_BL], targets_BL[masked_BL]
    # Filled up to few different sizes: in bf16 the CPU library compiles a kernel for every new number of rows.
    logits_MV = head(F.pad(states_MD, (0, 0, 0, -len(states_MD) % _GRANULE)))[: len(states_MD)].float()
    if len(targets_M) == 0:
        return MaskedLoss(logits_MV.sum(), 0, torch.zeros((), device=states_BLD.device))
    correct = (logits_MV.detach().argmax(dim=1) == targets_M).sum()
    return MaskedLoss(F.cross_entropy(logits_MV, targets_M), len(targets_M), correct)


def masked_losses(
    model: PretrainModel, codes_of: Callable[[Tensor], Tensor], batch: PretrainBatch
) -> tuple[dict[str, MaskedLoss], EncoderOutput]:
    """One encoder pass over the streams of a step, and the loss of each of their targets.

    Args:
        codes_of: the frozen visual tokenizer, pictures to codes (B, N).

    Returns:
        Losses by name (`images`, `texts`, `pairs_image`, `pairs_text`; those of absent streams are absent), and the
        encoder's output, for the balance losses.
    """
    present = [(name, stream) for name in STREAMS if (stream := getattr(batch, name)) is not None]
    output = model.encoder(*(stream for _, stream in present))
    losses: dict[str, MaskedLoss] = {}
    for (name, stream), states in zip(present, output.streams, strict=True):
        pair = stream.images is not None and stream.texts is not None
        if stream.images is not None:
            losses[f"{name}_image" if pair else name] = _image_loss(model, codes_of, stream, states)
        if stream.texts is not None:
            losses[f"{name}_text" if pair else name] = _text_loss(model, stream, states)
    return losses, output


def _image_loss(
    model: PretrainModel, codes_of: Callable[[Tensor], Tensor], stream: ImageTextBatch, states: StreamStates
) -> MaskedLoss:
    assert stream.images is not None and states.image_BND is not None
    if stream.images.masked_BN is None:
        raise ValueError("masked pretraining: a picture stream without patch masks; the data module must make them")
    codes_BN = codes_of(stream.images.pixels_BCHW)
    return masked_cross_entropy(states.image_BND[:, 1:], stream.images.masked_BN, codes_BN, model.image_head)


def _text_loss(model: PretrainModel, stream: ImageTextBatch, states: StreamStates) -> MaskedLoss:
    assert stream.texts is not None and states.text_BLD is not None
    if stream.texts.masked_BL is None:
        raise ValueError("masked pretraining: a text stream without token masks; the data module must make them")
    return masked_cross_entropy(states.text_BLD, stream.texts.masked_BL, stream.texts.ids_BL, model.text_head)
