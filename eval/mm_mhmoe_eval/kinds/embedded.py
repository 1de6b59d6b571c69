"""Pictures and their captions as embeddings. Legend: E embedding, M images, N texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mm_mhmoe_data.ordered import iterate_pairs, iterate_texts
from mm_mhmoe_data.pipeline import ShardDataset
from torch import Tensor

from mm_mhmoe_eval.kinds.scored import ScoredData
from mm_mhmoe_eval.protocol import EmbedsPairs


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedded:
    """keys of the M pictures; captions: N texts; text_image_N: the picture of each text, by its row."""

    keys: list[str]
    captions: list[str]
    image_ME: Tensor
    text_NE: Tensor
    text_image_N: Tensor


def check_embeds(model: Any) -> EmbedsPairs:
    """The model, if it can do it. Raises ValueError otherwise."""
    if not isinstance(model, EmbedsPairs):
        raise ValueError(
            f"{type(model).__name__} does not embed pictures and texts; a retrieval task needs a retrieval model"
        )
    return model


def counted(dataset: ShardDataset, data: ScoredData) -> int:
    """How many pictures are scored. Raises ValueError for none."""
    count = len(dataset) if data.limit is None else min(data.limit, len(dataset))
    if not count:
        raise ValueError(f"{data.paths['test']} holds no pairs")
    return count


def embed_images(model: EmbedsPairs, dataset: ShardDataset, data: ScoredData, chosen: Sequence[int]) -> Tensor:
    """(M, E) of the pictures at these places."""
    batches = iterate_pairs(dataset, **data.inputs(model), stream="images", chosen=chosen)
    return torch.cat(
        [model.embed_images(batch.images.to(data.device)).float().cpu() for batch in batches if batch.images]
    )


def embed_texts(model: EmbedsPairs, texts: Sequence[str], data: ScoredData) -> Tensor:
    """(N, E)."""
    batches = iterate_texts(texts, data.tokenizer, model.text, data.batch_size)
    return torch.cat([model.embed_texts(batch.to(data.device)).float().cpu() for batch in batches])


def embed_all(
    model: EmbedsPairs, dataset: ShardDataset, data: ScoredData, captions: Sequence[Sequence[str]]
) -> Embedded:
    """The first pictures of the set with their captions: captions[m] are those of picture m."""
    texts = [caption for of_picture in captions for caption in of_picture]
    rows = range(len(captions))
    return Embedded(
        keys=[str(dataset.keys[row]) for row in rows],
        captions=texts,
        image_ME=embed_images(model, dataset, data, rows),
        text_NE=embed_texts(model, texts, data),
        text_image_N=torch.arange(len(captions)).repeat_interleave(torch.tensor([len(c) for c in captions])),
    )
