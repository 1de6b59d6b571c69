"""What a model's routers do with samples: one pass, from which everything that `mm-mhmoe analyze` reports follows.

Shapes: T tokens, H sub-tokens a token, E experts, G groups of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mm_mhmoe_data.ordered import iterate_pairs
from mm_mhmoe_data.pipeline import Parts, ShardDataset
from mm_mhmoe_data.tokenizer import Tokenizer
from torch import Tensor

from mm_mhmoe.analysis.routing_sums import RoutingSums, first_choices, routing_sums
from mm_mhmoe.analysis.token_groups import KINDS, MODALITIES, kind_groups, modality_groups, token_kinds
from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.models.tasks import LanguageModel, RetrievalModel, TaskModel
from mm_mhmoe.models.upcycling.layers import Place

GROUPS = (*MODALITIES, *KINDS)


@dataclass(frozen=True, kw_only=True)
class RoutingRecord:
    """One model on some samples; layers by their block's index.

    sums:     over GROUPS, of every layer or pool of experts.
    image_TH: first choices of all picture tokens, in the order of the samples.
    text_TH:  of all text tokens, without padding.
    ids_T:    ids of the text tokens.
    """

    sums: dict[Place, RoutingSums]
    image_TH: dict[int, Tensor]
    text_TH: dict[int, Tensor]
    ids_T: Tensor


def streams_of(model: TaskModel, pairs: ImageTextBatch) -> tuple[ImageTextBatch, ...]:
    """Samples as the model's task gives them to the encoder: pairs apart for a dual encoder, else as one row; texts
    from left to right for a language model."""
    if isinstance(model, LanguageModel):
        return (ImageTextBatch(texts=pairs.texts, causal_text=True),)
    if isinstance(model, RetrievalModel):
        return ImageTextBatch(images=pairs.images), ImageTextBatch(texts=pairs.texts)
    return (pairs,)


@torch.no_grad()
def record_routing(
    model: TaskModel, dataset: ShardDataset, tokenizer: Tokenizer, chosen: Sequence[int], *, batch_size: int
) -> RoutingRecord:
    """Runs the encoder over the chosen pairs, or texts; nothing is hidden from it. All is empty for a dense encoder but
    ids_T."""
    device = next(model.parameters()).device
    sums: dict[Place, RoutingSums] = {}
    stream: Parts = "pairs" if model.config.pictures else "texts"
    image_parts: dict[int, list[Tensor]] = {}
    text_parts: dict[int, list[Tensor]] = {}
    ids = []
    for pairs in iterate_pairs(dataset, tokenizer, model.vision, model.text, batch_size, stream=stream, chosen=chosen):
        streams = streams_of(model, pairs.to(device))
        output = model.encoder(*streams)
        modality_TG = modality_groups(output)
        kind_T = token_kinds(streams, model.vision.num_patches, model.text)
        for place, added in routing_sums(output, torch.cat([modality_TG, kind_groups(kind_T)], dim=1)).items():
            sums[place] = sums[place] + added.double() if place in sums else added.double()
        for layer in output.routing:
            # int16: the sub-tokens of many samples are many.
            first_TH = first_choices(output, layer).to("cpu", torch.int16)
            for parts, member_T in zip((image_parts, text_parts), modality_TG.cpu().unbind(1), strict=True):
                parts.setdefault(layer.layer, []).append(first_TH[member_T])
        assert pairs.texts is not None
        ids.append(pairs.texts.ids_BL[pairs.texts.valid_BL])
    return RoutingRecord(
        sums=sums,
        image_TH={layer: torch.cat(parts).long() for layer, parts in image_parts.items()},
        text_TH={layer: torch.cat(parts).long() for layer, parts in text_parts.items()},
        ids_T=torch.cat(ids),
    )
