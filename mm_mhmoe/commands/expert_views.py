"""Where the report's encoder sends its sub-tokens."""

from __future__ import annotations

import torch
from mm_mhmoe_data.ordered import iterate_pairs
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.tokenizer import Tokenizer
from mm_mhmoe_eval.report_data import ExpertLayer, ExpertMap, ExpertMapSection, ExpertSection, picture_uri

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


@torch.no_grad()
def expert_maps(
    model: TaskModel, dataset: ShardDataset, tokenizer: Tokenizer, *, count: int = 3, seed: int = 0
) -> ExpertMapSection | None:
    """The first-choice expert of each sub-token of some pictures, in the last sparse layer; None if it is dense."""
    if model.config.ffn == "dense":
        return None
    chosen = draw(count, len(dataset), seed)
    maps = []
    for index, batch in enumerate(iterate_pairs(dataset, tokenizer, model.vision, model.text, 1)):
        if index not in chosen:
            continue
        output = model.encoder(ImageTextBatch(images=batch.images))
        layer = output.routing[-1]
        choice_TH = first_choices(output, layer)[1:]  # without [CLS]
        maps.append(
            ExpertMap(
                picture=picture_uri(dataset.picture(index)),
                layer=layer.layer + 1,
                grid=model.vision.grid,
                experts=choice_TH.t().tolist(),
                caption=dataset.caption(index),
            )
        )
    return ExpertMapSection(
        rule=rule(count, "test pictures", seed), num_experts=model.config.moe.num_experts, maps=maps
    )
