"""The best candidates of every query, put into a new order by a model that reads picture and text together.

Legend: M images, N texts, Q queries, K candidates of a query, P pairs of picture and text.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from mm_mhmoe_data.ordered import iterate_pairs, iterate_texts
from mm_mhmoe_data.pipeline import ShardDataset
from torch import Tensor

from mm_mhmoe.batch import Images, ImageTextBatch
from mm_mhmoe_eval.kinds.embedded import Embedded
from mm_mhmoe_eval.kinds.scored import ScoredData
from mm_mhmoe_eval.protocol import RescoresPairs
from mm_mhmoe_eval.retrieval import Ranks, new_ranks, top_k


def reranked(model: Any, dataset: ShardDataset, data: ScoredData, found: Embedded, ranks: Ranks, *, keep: int) -> Ranks:
    """Ranks after the `keep` best candidates of each query were rescored; what is not among them keeps its rank.

    A pair that is a candidate both ways is read once, and every picture is decoded once.

    Raises:
        ValueError: the model cannot do it, or keep is below 0.
    """
    if keep < 0:
        raise ValueError(f"options.rerank={keep} must be 0 or more candidates")
    if not isinstance(model, RescoresPairs):
        raise ValueError(
            f"{type(model).__name__} reads no picture and text together; set rerank: 0, or fine-tune with --match true"
        )
    images_NK, _ = top_k(found.text_NE, found.image_ME, keep)
    texts_MK, _ = top_k(found.image_ME, found.text_NE, keep)
    texts = len(found.captions)
    of_texts_NK = images_NK * texts + torch.arange(texts)[:, None]
    of_images_MK = texts_MK + torch.arange(len(texts_MK))[:, None] * texts
    number_P = torch.cat([of_texts_NK.flatten(), of_images_MK.flatten()]).unique()  # sorted, so by picture
    score_P = _scores(model, dataset, data, found, number_P)

    def scores_of(number_QK: Tensor) -> Tensor:
        return score_P[torch.searchsorted(number_P, number_QK)]

    own_NK = images_NK == found.text_image_N[:, None]
    own_MK = found.text_image_N[texts_MK] == torch.arange(len(texts_MK))[:, None]
    return replace(
        ranks,
        image_N=new_ranks(ranks.image_N, scores_of(of_texts_NK), own_NK),
        text_M=new_ranks(ranks.text_M, scores_of(of_images_MK), own_MK),
    )


def _scores(model: RescoresPairs, dataset: ShardDataset, data: ScoredData, found: Embedded, number_P: Tensor) -> Tensor:
    """(P,) scores of the pairs whose number is picture * texts + text, in ascending order."""
    image_P, text_P = number_P // len(found.captions), number_P % len(found.captions)
    cosine_P = (found.image_ME[image_P] * found.text_NE[text_P]).sum(1)
    scores, first = [], 0
    pictures = iterate_pairs(dataset, **data.inputs(model), stream="images", chosen=range(len(found.keys)))
    for batch in pictures:
        assert batch.images is not None
        here_P = ((image_P >= first) & (image_P < first + len(batch))).nonzero().squeeze(1)
        said = [found.captions[n] for n in text_P[here_P].tolist()]
        of_batch = iterate_texts(said, data.tokenizer, model.text, data.batch_size)
        for chosen_B, texts in zip(here_P.split(data.batch_size), of_batch, strict=True):
            images = Images(pixels_BCHW=batch.images.pixels_BCHW[image_P[chosen_B] - first])
            pairs = ImageTextBatch(images=images, texts=texts).to(data.device)
            scores.append(model.rescore(pairs, cosine_P[chosen_B].to(data.device)).float().cpu())
        first += len(batch)
    return torch.cat(scores)
