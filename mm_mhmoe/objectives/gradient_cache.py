"""Large contrastive batches on small devices: gradient caching (GradCache, arXiv 2101.06983).

Legend: B batch, P embedding dim, T tokens of all streams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mm_mhmoe.batch import Images, ImageTextBatch, Texts
from mm_mhmoe.models.encoder import EncoderOutput, LayerRouting
from mm_mhmoe.models.tasks import RetrievalModel
from mm_mhmoe.nn import Routing

_T = TypeVar("_T")


def in_chunks(function: Callable[[ImageTextBatch], _T], pairs: ImageTextBatch, chunk: int | None) -> list[_T]:
    """What the function gives for `chunk` pairs at a time, of which none keeps its graph.

    In the backward pass each chunk is computed again, with the random numbers of the first time, when its turn has
    come. chunk=None: all pairs at once, with their graph.
    """
    if chunk is None or chunk >= len(pairs):
        return [function(pairs)]
    return [checkpoint(function, part, use_reentrant=False) for part in split_pairs(pairs, chunk)]


def embed_in_chunks(
    model: RetrievalModel, pairs: ImageTextBatch, chunk: int | None
) -> tuple[Tensor, Tensor, EncoderOutput]:
    """Embeddings (B, P) of both sides and the encoder's output without states, `chunk` pairs at a time (`in_chunks`).

    The loss of the whole batch gives the embeddings' gradients, and then every chunk takes its part of them through the
    encoder. So a step keeps the graph of one chunk, and costs one more forward pass. Gradients are those of the whole
    batch; so are the routers' losses, as their probabilities are kept for all tokens. Only routers that compare the
    tokens of a batch (expert choice, a capacity) compare those of a chunk.
    """
    images, texts, outputs = zip(*in_chunks(partial(_embed, model), pairs, chunk), strict=True)
    return torch.cat(images), torch.cat(texts), _joined(outputs)


def split_pairs(pairs: ImageTextBatch, chunk: int) -> Iterator[ImageTextBatch]:
    """The pairs, at most `chunk` at a time."""
    for start in range(0, len(pairs), chunk):
        rows = slice(start, start + chunk)
        images = None if pairs.images is None else Images(**_rows(pairs.images, rows))
        texts = None if pairs.texts is None else Texts(**_rows(pairs.texts, rows))
        yield ImageTextBatch(images=images, texts=texts, keys=pairs.keys[rows], causal_text=pairs.causal_text)


def _rows(part: Images | Texts, rows: slice) -> dict[str, Any]:
    values = {f.name: getattr(part, f.name) for f in fields(part)}
    return {name: None if value is None else value[rows] for name, value in values.items()}


def _embed(model: RetrievalModel, pairs: ImageTextBatch) -> tuple[Tensor, Tensor, EncoderOutput]:
    image_BP, text_BP, output = model(pairs)
    return image_BP, text_BP, output._replace(streams=())  # or their memory would be held until the end


def _joined(outputs: Sequence[EncoderOutput]) -> EncoderOutput:
    """One output of all tokens, chunk by chunk."""
    if len(outputs) == 1:
        return outputs[0]
    layers = zip(*(output.routing for output in outputs), strict=True)
    return EncoderOutput(
        streams=(),
        routing=tuple(LayerRouting(same[0].layer, _joined_routing([r.routing for r in same])) for same in layers),
        is_text_T=torch.cat([output.is_text_T for output in outputs]),
        valid_T=torch.cat([output.valid_T for output in outputs]),
    )


def _joined_routing(parts: Sequence[Routing]) -> Routing:
    first = parts[0]
    pools = tuple(_joined_routing(same) for same in zip(*(part.pools for part in parts), strict=True))
    tensors = (f.name for f in fields(Routing) if isinstance(getattr(first, f.name), Tensor))
    return replace(first, pools=pools, **{n: torch.cat([getattr(part, n) for part in parts]) for n in tensors})
