"""Masked data modelling on pictures, texts and pairs, as BEiT-3 (arXiv 2208.10442) pretrains.

Shapes: B batch, N patches, L text length, D model dim, M masked positions, V classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mm_mhmoe.batch import Images, ImageTextBatch, PretrainBatch, Texts
from mm_mhmoe.models.encoder import EncoderOutput, StreamStates
from mm_mhmoe.models.tasks import PretrainModel
from mm_mhmoe.objectives.cross_entropy import FUSED_FROM, fused_cross_entropy, split_head

_GRANULE = 64
STREAMS = ("images", "texts", "pairs")
LOSSES = ("images", "texts", "pairs_image", "pairs_text")
FROM_CLS = "_cls"


class MaskedLoss(NamedTuple):
    """Mean loss over `positions` masked positions.

    correct: how many were predicted right; None where nothing is right or wrong.
    measure: what the loss is, if it is not a cross-entropy in nats (of which alone there is a perplexity).
    """

    loss: Tensor
    positions: int
    correct: Tensor | None
    measure: str | None = None

    def named(self, name: str) -> str:
        """The name of this loss in logs: `name`, and the measure behind it where it is no cross-entropy."""
        return f"{name}_{self.measure}" if self.measure else name


class PictureTarget(Protocol):
    """What hidden patches are predicted as; see picture_targets.py."""

    def of(self, images: Images) -> Tensor:
        """The target of every patch of whole pictures: (B, N), or (B, N, P)."""

    def loss(self, states_BND: Tensor, masked_BN: Tensor, targets_BN: Tensor, head: Any) -> MaskedLoss:
        """The loss of what `head` makes of states at hidden patches."""


def masked_cross_entropy(
    states_BLD: Tensor, masked_BL: Tensor, targets_BL: Tensor, head: Callable[[Tensor], Tensor]
) -> MaskedLoss:
    """Applies `head` at masked positions only, so that no logits of a whole sequence exist. No mask: a loss of zero."""
    states_MD, targets_M = states_BLD[masked_BL], targets_BL[masked_BL]
    count = len(targets_M)
    # Filled up to few different sizes: in bf16 the CPU library compiles a kernel for every new number of rows.
    filled_MD = F.pad(states_MD, (0, 0, 0, -count % _GRANULE))
    body, linear = split_head(head)
    if linear is not None and count * linear.out_features >= FUSED_FROM:
        loss, correct = fused_cross_entropy(body(filled_MD), targets_M, linear)
        return MaskedLoss(loss, count, correct)
    logits_MV = head(filled_MD)[:count].float()
    if count == 0:
        return MaskedLoss(logits_MV.sum(), 0, torch.zeros((), device=states_BLD.device))
    correct = (logits_MV.detach().argmax(dim=1) == targets_M).sum()
    return MaskedLoss(F.cross_entropy(logits_MV, targets_M), count, correct)


def masked_losses(
    model: PretrainModel,
    target: PictureTarget,
    batch: PretrainBatch,
    *,
    from_cls: bool = False,
    extra: Sequence[ImageTextBatch] = (),
) -> tuple[dict[str, MaskedLoss], EncoderOutput]:
    """One encoder pass over the streams of a step, and the loss of each of their targets.

    Args:
        target: what hidden patches are predicted as.
        from_cls: also predict the hidden positions from the row's [CLS] alone.
        extra: streams of other objectives, which go through the same pass; theirs are the output's last ones.

    Returns:
        Losses by name (`images`, `texts`, `pairs_image`, `pairs_text`, and with from_cls each with `_cls` behind it;
        those of absent streams are absent), and the encoder's output, for the balance losses.
    """
    present = [(name, stream) for name in STREAMS if (stream := getattr(batch, name)) is not None]
    output = model.encoder(*(stream for _, stream in present), *extra)
    losses: dict[str, MaskedLoss] = {}
    for (name, stream), states in zip(present, output.streams[: len(present)], strict=True):
        cls_BD = _cls(states)
        for key, part in hidden_parts(model, target, name, stream, states).items():
            losses[key] = part.loss(part.states_BLD, part.masked_BL, part.targets_BL, part.head)
            if from_cls:
                if part.positions_LD is None:
                    raise ValueError(
                        "a loss from [CLS] needs the positions of hidden patches; use encoder.image_positions=true, or "
                        "leave that loss out"
                    )
                guess_BLD = cls_BD.unsqueeze(1) + part.positions_LD[: part.masked_BL.shape[1]]
                head = nn.Sequential(model.from_cls, part.head)
                losses[key + FROM_CLS] = part.loss(guess_BLD, part.masked_BL, part.targets_BL, head)
    return losses, output


class HiddenPart(NamedTuple):
    """What is hidden in one modality of a stream, and where the encoder's states of it are."""

    states_BLD: Tensor
    positions_LD: Tensor | None
    masked_BL: Tensor
    targets_BL: Tensor
    head: nn.Module
    loss: Callable[[Tensor, Tensor, Tensor, Callable[[Tensor], Tensor]], MaskedLoss]


def hidden_parts(
    model: PretrainModel, target: PictureTarget, name: str, stream: ImageTextBatch, states: StreamStates
) -> dict[str, HiddenPart]:
    """What is hidden in each modality of the stream `name`, by the name of its loss.

    Raises:
        ValueError: pictures or texts have no mask.
    """
    pair = stream.images is not None and stream.texts is not None
    parts: dict[str, HiddenPart] = {}
    if stream.images is not None:
        parts[f"{name}_image" if pair else name] = _image_part(model, target, stream.images, states)
    if stream.texts is not None:
        parts[f"{name}_text" if pair else name] = _text_part(model, stream.texts, states)
    return parts


def _cls(states: StreamStates) -> Tensor:
    """[CLS] of the row: the picture's where there is one, else the text's begin token."""
    row_BLD = states.image_BND if states.image_BND is not None else states.text_BLD
    assert row_BLD is not None
    return row_BLD[:, 0]


def _image_part(model: PretrainModel, target: PictureTarget, images: Images, states: StreamStates) -> HiddenPart:
    assert states.image_BND is not None
    if images.masked_BN is None:
        raise ValueError("masked pretraining: a picture stream without patch masks; the data module must make them")
    targets_BN = target.of(images)
    assert model.encoder.image is not None
    positions_ND = model.encoder.image.positions_ND
    return HiddenPart(
        states.image_BND[:, 1:],
        None if positions_ND is None else positions_ND[1:],
        images.masked_BN,
        targets_BN,
        model.image_head,
        target.loss,
    )


def _text_part(model: PretrainModel, texts: Texts, states: StreamStates) -> HiddenPart:
    assert states.text_BLD is not None
    if texts.masked_BL is None:
        raise ValueError("masked pretraining: a text stream without token masks; the data module must make them")
    positions_LD, head = model.encoder.text.positions_LD, model.text_head
    return HiddenPart(states.text_BLD, positions_LD, texts.masked_BL, texts.ids_BL, head, masked_cross_entropy)
