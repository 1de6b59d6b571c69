"""Pictures by texts, and texts by pictures; several captions of a picture, where a set has them, each on its own.

Legend: E embedding, M images, N texts.
"""

from __future__ import annotations

from typing import Any

import torch
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.samples import captions_of
from torch import Tensor

from mm_mhmoe_eval.kinds.embedded import Embedded, check_embeds, counted, embed_all
from mm_mhmoe_eval.kinds.rerank import reranked
from mm_mhmoe_eval.kinds.scored import Scored, ScoredData
from mm_mhmoe_eval.results import bootstrap_interval
from mm_mhmoe_eval.retrieval import Ranks, retrieval_ranks, scores_from_ranks, top_k

_KS = (1, 5, 10)


def score(model: Any, data: ScoredData) -> Scored:
    check_embeds(model)
    dataset = ShardDataset(str(data.paths["test"]))
    captions = [captions_of(dataset, row, "auto") for row in range(counted(dataset, data))]
    found = embed_all(model, dataset, data, captions)
    ranks = retrieval_ranks(found.image_ME, found.text_NE, found.text_image_N)
    metrics, hits = scores_from_ranks(ranks, found.text_image_N, _KS), hits_of(ranks)
    if data.options["rerank"]:
        better = reranked(model, dataset, data, found, ranks, keep=data.options["rerank"])
        recalls = scores_from_ranks(better, found.text_image_N, _KS)
        metrics |= {f"reranked_{name}": value for name, value in recalls.items() if "_recall@" in name}
        hits |= {f"reranked_{name}": values for name, values in hits_of(better).items()}
    return Scored(
        metrics=metrics,
        intervals={
            name: interval(values, found.text_image_N if "image_retrieval" in name else None)
            for name, values in hits.items()
        },
        samples=_samples(found, ranks),
        per_sample={name: values.tolist() for name, values in hits.items() if name.endswith("@10")},
    )


def hits_of(ranks: Ranks) -> dict[str, Tensor]:
    """Whether each query found its own within k: of every text, and of every picture with captions."""
    sides = (("image_retrieval", ranks.image_N), ("text_retrieval", ranks.text_M[ranks.text_M > 0]))
    return {f"{name}_recall@{k}": (rank_Q <= k).double() for name, rank_Q in sides for k in _KS}


def interval(hit_Q: Tensor, text_image_N: Tensor | None = None) -> list[float]:
    """95% bootstrap of a recall.

    Args:
        hit_Q: 0 or 1 for each query.
        text_image_N: the pictures of queries that are texts: pictures are drawn anew, each with all of its texts, which
            are not independent of each other. None: queries are.
    """
    if text_image_N is None:
        return list(bootstrap_interval(hit_Q.tolist(), seed=0))
    texts_M = torch.bincount(text_image_N).double()
    hits_M = torch.zeros_like(texts_M).index_add_(0, text_image_N, hit_Q)

    def recall(drawn: Tensor) -> Tensor:
        return hits_M[drawn.long()].sum(1) / texts_M[drawn.long()].sum(1)

    return list(bootstrap_interval(range(len(texts_M)), seed=0, statistic=recall))


def _samples(found: Embedded, ranks: Ranks) -> list[dict[str, Any]]:
    """One a text."""
    images_NK, _ = top_k(found.text_NE, found.image_ME, 5)
    texts_MK, _ = top_k(found.image_ME, found.text_NE, 5)
    return [
        {
            "key": found.keys[m],
            "caption": found.captions[n],
            "image_rank": int(ranks.image_N[n]),
            "text_rank": int(ranks.text_M[m]),
            "top_images": [found.keys[i] for i in images_NK[n].tolist()],
            "top_captions": [found.captions[i] for i in texts_MK[m].tolist()],
        }
        for n, m in enumerate(found.text_image_N.tolist())
    ]
