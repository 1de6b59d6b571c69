"""Where an encoder sends its sub-tokens, for the report and for `mm-mhmoe analyze`.

Shapes: C channels, H heads, N patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mm_mhmoe_data.ordered import iterate_pairs
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.tokenizer import Tokenizer
from mm_mhmoe_eval.report_data import ExpertLayer, ExpertMap, ExpertMapSection, ExpertSection, picture_uri
from torch import Tensor

from mm_mhmoe.analysis.routing_stats import activated_share, layer_loads
from mm_mhmoe.analysis.routing_sums import first_choices
from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.commands.showcase import draw, rule
from mm_mhmoe.models.tasks import TaskModel

THRESHOLDS = (0.01, 0.1, 0.25, 0.5, 1.0)


@torch.no_grad()
def expert_use(model: TaskModel, dataset: ShardDataset, tokenizer: Tokenizer) -> ExpertSection | None:
    """Load of every expert over all pairs of the dataset; None for a dense encoder."""
    loads = layer_loads(
        model.encoder(batch) for batch in iterate_pairs(dataset, tokenizer, model.vision, model.text, 64)
    )
    if not loads:
        return None
    return ExpertSection(
        sample=f"{len(dataset):,} test pairs",
        layers=[
            ExpertLayer(
                layer=load.layer + 1,
                image_share=(load.image_E / load.image_E.sum()).tolist(),
                text_share=(load.text_E / load.text_E.sum()).tolist(),
            )
            for load in loads
        ],
        active_share={f"{threshold:g}": activated_share(loads, threshold) for threshold in THRESHOLDS},
    )


class PictureChoices(NamedTuple):
    """What the sub-tokens of one picture's patches chose first in a layer (a block's index).

    pixels_CHW: uint8, as in the shard.
    first_HN:   the expert of each head at each patch.
    """

    layer: int
    caption: str
    pixels_CHW: Tensor
    first_HN: Tensor


def picture_choices(
    model: TaskModel, dataset: ShardDataset, tokenizer: Tokenizer, *, count: int, seed: int
) -> list[PictureChoices]:
    """First choices in the last sparse layer for the first `count` pictures of a seeded draw; empty if it is dense."""
    # In the order of the set, as the report has always shown them.
    return choices_of(model, dataset, tokenizer, sorted(draw(count, len(dataset), seed)))


@torch.no_grad()
def choices_of(
    model: TaskModel, dataset: ShardDataset, tokenizer: Tokenizer, chosen: Sequence[int]
) -> list[PictureChoices]:
    """The same for the pictures at these places."""
    if model.config.ffn == "dense":
        return []
    found = []
    device = next(model.parameters()).device
    pictures = iterate_pairs(dataset, tokenizer, model.vision, model.text, 1, stream="images", chosen=chosen)
    for index, batch in zip(chosen, pictures, strict=True):
        output = model.encoder(ImageTextBatch(images=batch.images).to(device))
        layer = output.routing[-1]
        first_NH = first_choices(output, layer)[1:].cpu()  # without [CLS]
        found.append(PictureChoices(layer.layer, dataset.caption(index), dataset.picture(index), first_NH.t()))
    return found


def expert_maps(
    model: TaskModel, dataset: ShardDataset, tokenizer: Tokenizer, *, count: int = 3, seed: int = 0
) -> ExpertMapSection | None:
    """The first-choice expert of each sub-token of some pictures, in the last sparse layer; None if it is dense."""
    chosen = sorted(draw(count, len(dataset), seed))
    return maps_of(model, dataset, tokenizer, chosen, rule(count, "test pictures", seed))


def maps_of(
    model: TaskModel, dataset: ShardDataset, tokenizer: Tokenizer, chosen: Sequence[int], why: str
) -> ExpertMapSection | None:
    """The same for the pictures at these places. why: how they were chosen."""
    views = choices_of(model, dataset, tokenizer, chosen)
    if not views:
        return None
    return ExpertMapSection(
        rule=why,
        num_experts=model.config.moe.num_experts,
        maps=[
            ExpertMap(
                picture=picture_uri(view.pixels_CHW),
                layer=view.layer + 1,
                grid=model.vision.grid,
                experts=view.first_HN.tolist(),
                caption=view.caption,
            )
            for view in views
        ],
    )
