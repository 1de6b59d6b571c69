"""What a model does with a batch of pairs: inputs of its FFNs, and how much it uses its experts.

Legend: T tokens without padding, D model dim, E experts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from mm_mhmoe_data.datamodules import PairDataModule, PretrainDataModule
from mm_mhmoe_data.tokenizer import Tokenizer
from torch import Tensor, nn

from mm_mhmoe.analysis.routing_stats import layer_loads
from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.commands.sources import data_path
from mm_mhmoe.models.encoder import StreamStates
from mm_mhmoe.models.tasks import PretrainModel, RetrievalModel, TaskModel
from mm_mhmoe.models.upcycling.layers import WAYS, Place
from mm_mhmoe.nn import ways


def probe_streams(
    model: TaskModel, tokenizer: Path, shards: str, *, pairs: int, seed: int = 0
) -> tuple[ImageTextBatch, ...]:
    """Random pairs of the shards in the streams that this kind of model is trained on, with pretraining's masks."""
    if pairs < 1:
        raise ValueError(f"pairs={pairs} must be 1 or more")
    words = Tokenizer.load(tokenizer)
    words.check(model.text)
    parts = (data_path(shards), words, model.vision, model.text)
    if isinstance(model, PretrainModel):
        masked = PretrainDataModule(
            *parts, batch_images=pairs, batch_texts=pairs, batch_pairs=pairs, num_steps=1, seed=seed
        )
        masked.setup("fit")
        batch = masked.make_batch(0)
        return tuple(stream for stream in (batch.images, batch.texts, batch.pairs) if stream is not None)
    data = PairDataModule(*parts, task="retrieval", batch_size=pairs, num_steps=1, seed=seed)
    data.setup("fit")
    both = data.make_batch(0)
    if isinstance(model, RetrievalModel):
        return ImageTextBatch(images=both.images), ImageTextBatch(texts=both.texts)
    return (both,)


@torch.no_grad()
def ffn_inputs(model: TaskModel, streams: Sequence[ImageTextBatch]) -> dict[Place, Tensor]:
    """What every FFN gets: (T, D)."""
    with _recorded(model) as inputs:
        output = model.encoder(*streams)
    valid_T, is_text_T = output.valid_T, output.is_text_T
    of = {"image": ~is_text_T, "text": is_text_T}
    is_pair_T = torch.cat([_is_pair(stream) for stream in output.streams])
    apart = {"image": of["image"] & ~is_pair_T, "text": of["text"] & ~is_pair_T, "pair": is_pair_T}

    def kept(place: Place) -> Tensor:
        if isinstance(place, int):
            return valid_T
        return valid_T[(apart if model.config.ffns(place[0]) == len(WAYS) else of)[place[1]]]

    return {place: x_TD[kept(place)] for place, x_TD in inputs.items()}


def _is_pair(stream: StreamStates) -> Tensor:
    """A flag for each token of the stream: whether its rows are pairs."""
    parts = [part for part in (stream.image_BND, stream.text_BLD) if part is not None]
    tokens = sum(part.shape[0] * part.shape[1] for part in parts)
    return torch.full((tokens,), len(parts) == 2, device=parts[0].device)


@torch.no_grad()
def expert_counts(model: TaskModel, streams: Sequence[ImageTextBatch]) -> dict[Place, Tensor]:
    """How often the experts of each sparse FFN are used: (E,)."""
    loads = {load.layer: load.all_E for load in layer_loads([model.encoder(*streams)])}
    if model.config.expert_pools == 1:
        return dict(loads.items())
    return {
        (n, way): own_E
        for n, all_E in loads.items()
        for way, own_E in zip(WAYS, all_E.chunk(model.config.ffns(n)), strict=False)
    }


@contextmanager
def _recorded(model: TaskModel) -> Iterator[dict[Place, Tensor]]:
    inputs: dict[Place, Tensor] = {}

    def keep(place: Place, x_TD: Tensor) -> None:
        inputs[place] = x_TD

    places: list[tuple[Place, nn.Module]] = []
    for layer, block in enumerate(model.encoder.blocks):
        ffns = ways(block.get_submodule("ffn"))
        places += [(layer, ffns[0])] if len(ffns) == 1 else [((layer, w), f) for w, f in zip(WAYS, ffns, strict=False)]
    hooks = [
        ffn.register_forward_pre_hook(lambda _, given, place=place: keep(place, given[0])) for place, ffn in places
    ]
    try:
        yield inputs
    finally:
        for hook in hooks:
            hook.remove()
