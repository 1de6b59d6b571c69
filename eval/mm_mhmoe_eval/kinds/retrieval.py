"""Pictures by texts, and texts by pictures. Legend: E embedding, M images, N texts."""

from __future__ import annotations

from typing import Any

import torch
from mm_mhmoe_data.ordered import iterate_pairs
from mm_mhmoe_data.pipeline import ShardDataset

from mm_mhmoe_eval.kinds.scored import Scored, ScoredData
from mm_mhmoe_eval.protocol import EmbedsPairs
from mm_mhmoe_eval.results import bootstrap_interval
from mm_mhmoe_eval.retrieval import retrieval_ranks, scores_from_ranks, top_k

_KS = (1, 5, 10)


def score(model: Any, data: ScoredData) -> Scored:
    if not isinstance(model, EmbedsPairs):
        raise ValueError(
            f"{type(model).__name__} does not embed pictures and texts; a retrieval task needs a retrieval model"
        )
    dataset = ShardDataset(str(data.paths["test"]))
    images, texts, count = [], [], 0
    for batch in iterate_pairs(dataset, **data.inputs(model)):
        assert batch.images is not None and batch.texts is not None
        images.append(model.embed_images(batch.images.to(data.device)).float().cpu())
        texts.append(model.embed_texts(batch.texts.to(data.device)).float().cpu())
        count += len(batch)
        if data.limit is not None and count >= data.limit:
            break
    if not images:
        raise ValueError(f"{data.paths['test']} holds no pairs")
    image_ME, text_NE = torch.cat(images)[: data.limit], torch.cat(texts)[: data.limit]
    own_N = torch.arange(len(text_NE))
    ranks = retrieval_ranks(image_ME, text_NE, own_N)
    found_NK, _ = top_k(text_NE, image_ME, 5)
    said_MK, _ = top_k(image_ME, text_NE, 5)
    keys = [str(key) for key in dataset.keys[: len(own_N)]]
    samples = [
        {
            "key": keys[n],
            "caption": dataset.caption(n),
            "image_rank": int(ranks.image_N[n]),
            "text_rank": int(ranks.text_M[n]),
            "top_images": [keys[i] for i in found_NK[n].tolist()],
            "top_captions": [dataset.caption(i) for i in said_MK[n].tolist()],
        }
        for n in range(len(own_N))
    ]
    hits = {
        f"{name}_recall@{k}": (rank <= k).double().tolist()
        for name, rank in (("image_retrieval", ranks.image_N), ("text_retrieval", ranks.text_M))
        for k in _KS
    }
    return Scored(
        metrics=scores_from_ranks(ranks, own_N, _KS),
        intervals={name: list(bootstrap_interval(values, seed=0)) for name, values in hits.items()},
        samples=samples,
        per_sample={name: values for name, values in hits.items() if name.endswith("@10")},
    )
