"""What pretraining can ask of pairs beside what is hidden in them: captions, and which picture goes with which text.

Their streams have nothing hidden and go through the encoder's pass of the masked streams. Matching alone needs a second
pass, because the first one finds its negatives; the routers' balance losses are those of the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mm_mhmoe.batch import Images, ImageTextBatch, Texts
from mm_mhmoe.models.encoder import StreamStates, cls_state
from mm_mhmoe.models.tasks import PretrainModel
from mm_mhmoe.objectives.captioning import caption_loss, caption_stream
from mm_mhmoe.objectives.contrastive import Gather, Similarities, similarities
from mm_mhmoe.objectives.masked import MaskedLoss
from mm_mhmoe.objectives.matching import matching_loss, matching_pairs


@dataclass(frozen=True, kw_only=True)
class PairObjectives:
    """Which of them a run has.

    caption:     text tokens from the picture and the tokens before them.
    contrastive: pictures and texts as streams of their own, compared by their [CLS].
    itm:         whether a picture and a text belong together, from the pair's [CLS].
    """

    caption: bool = False
    contrastive: bool = False
    itm: bool = False

    def __post_init__(self) -> None:
        if self.itm and not self.contrastive:
            raise ValueError(
                "itm_loss=true needs contrastive_loss=true, whose similarities choose its negatives; set both"
            )

    @property
    def losses(self) -> tuple[str, ...]:
        """Names of the losses that `pair_losses` gives."""
        asked = {"pairs_caption": self.caption, "pairs_contrastive": self.contrastive, "pairs_itm": self.itm}
        return tuple(name for name, is_asked in asked.items() if is_asked)


def pair_streams(pairs: ImageTextBatch | None, objectives: PairObjectives) -> list[ImageTextBatch]:
    """The streams that the objectives add to the encoder's pass. None of the pairs' masks is kept."""
    streams: list[ImageTextBatch] = []
    if pairs is None:
        return streams
    if objectives.caption:
        streams.append(caption_stream(pairs))
    if objectives.contrastive:
        assert pairs.images is not None and pairs.texts is not None
        streams.append(ImageTextBatch(images=Images(pixels_BCHW=pairs.images.pixels_BCHW)))
        streams.append(ImageTextBatch(texts=Texts(ids_BL=pairs.texts.ids_BL, valid_BL=pairs.texts.valid_BL)))
    return streams


def pair_losses(
    model: PretrainModel,
    pairs: ImageTextBatch | None,
    states: Sequence[StreamStates],
    objectives: PairObjectives,
    gather: Gather | None = None,
) -> dict[str, MaskedLoss]:
    """Losses by name: `pairs_caption`, `pairs_contrastive`, `pairs_itm`; none without pairs.

    Args:
        states: of the `pair_streams`.
        gather: brings the contrastive negatives of all ranks; None: there is one rank.
    """
    losses: dict[str, MaskedLoss] = {}
    if pairs is None:
        return losses
    if objectives.caption:
        text_BLD = states[0].text_BLD
        assert text_BLD is not None and pairs.texts is not None
        losses["pairs_caption"] = caption_loss(text_BLD, pairs.texts, model.text_head)
    if objectives.contrastive:
        losses["pairs_contrastive"], similar = _contrastive(model, states[-2], states[-1], gather)
        if objectives.itm:
            assert model.match_head is not None
            image_BND = model.encoder(matching_pairs(pairs, similar)).streams[0].image_BND
            assert image_BND is not None
            losses["pairs_itm"] = matching_loss(cls_state(image_BND), model.match_head)
    return losses


def _contrastive(
    model: PretrainModel, pictures: StreamStates, texts: StreamStates, gather: Gather | None
) -> tuple[MaskedLoss, Similarities]:
    """The loss, and the similarities that it compares."""
    head, image_BND, text_BLD = model.contrastive_head, pictures.image_BND, texts.text_BLD
    if head is None:
        raise ValueError("contrastive_loss=true: the model has no contrastive head; build it with an embed_dim")
    assert image_BND is not None and text_BLD is not None
    image_BP, text_BP = head.embed_image(cls_state(image_BND)), head.embed_text(cls_state(text_BLD))
    similar = similarities(image_BP, text_BP, head.scale, gather)
    right = [(logits_BG.argmax(dim=1) == similar.own_B).sum() for logits_BG in similar[:2]]
    return MaskedLoss(similar.loss(), 2 * len(image_BP), torch.stack(right).sum()), similar
