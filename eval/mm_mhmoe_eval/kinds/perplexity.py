"""How well held-out texts are predicted, by language. Legend: D documents.

Perplexity and nats a token compare between models with the same tokenizer, bits a byte between all whose tokenizers
keep every text (byte_fallback). A document goes through the model in windows of its length; a token sees those of its
window. The bytes are those of the text, and one for the end of each paragraph.
"""

from __future__ import annotations

import math
from itertools import islice
from typing import Any

import torch
from mm_mhmoe_data.language.tokens import document_ids
from torch import Tensor

from mm_mhmoe_eval.kinds.language.documents import held_out_documents
from mm_mhmoe_eval.kinds.language.sequences import predictor, sequence_nats, windows
from mm_mhmoe_eval.kinds.scored import Scored, ScoredData
from mm_mhmoe_eval.results import bootstrap_interval


def score(model: Any, data: ScoredData) -> Scored:
    predicts = predictor(model, "perplexity")
    documents = list(islice(held_out_documents(data), data.limit))
    pieces: list[Any] = []
    owner: list[int] = []
    for number, document in enumerate(documents):
        ids = document_ids(data.tokenizer.encode_all(document.paragraphs))
        parts = windows(ids, predicts.text.max_length)
        pieces += parts
        owner += [number] * len(parts)
    sums_3D = torch.zeros(3, len(documents), dtype=torch.float64)  # nats, tokens, bytes
    for number, nats_L in zip(owner, sequence_nats(predicts, pieces, data), strict=True):
        sums_3D[0, number] += nats_L.sum()
        sums_3D[1, number] += len(nats_L)
    sums_3D[2] = torch.tensor([sum(len(t.encode()) + 1 for t in document.paragraphs) for document in documents])
    metrics = _metrics(sums_3D)
    languages = [document.language for document in documents]
    by_language = {}
    for language in sorted(set(languages)):
        own_D = torch.tensor([name == language for name in languages])
        by_language[language] = _metrics(sums_3D[:, own_D])
        metrics |= {f"{name}/{language}": value for name, value in by_language[language].items() if language}
    each = [of_language["bits_per_byte"] for of_language in by_language.values()]
    metrics["mean_of_languages/bits_per_byte"] = sum(each) / len(each)
    return Scored(
        metrics=metrics,
        intervals={name: _interval(sums_3D, name) for name in ("perplexity", "bits_per_byte")},
        samples=[
            {"key": f"{d.language}/{d.id}", "language": d.language, **_metrics(sums_3D[:, n : n + 1])}
            for n, d in enumerate(documents)
        ],
        per_sample={
            "nats": (sums_3D[0] / sums_3D[1]).tolist(),
            "bits_per_byte": (sums_3D[0] / math.log(2) / sums_3D[2]).tolist(),
        },
    )


def _metrics(sums_3D: Tensor) -> dict[str, float]:
    nats, tokens, size = sums_3D.sum(dim=1).tolist()
    return {
        "nats_per_token": nats / tokens,
        "perplexity": math.exp(nats / tokens),
        "bits_per_byte": nats / math.log(2) / size,
        "tokens": tokens,
        "bytes": size,
    }


def _interval(sums_3D: Tensor, name: str) -> list[float]:
    """95% bootstrap over documents."""
    nats_D, tokens_D, bytes_D = sums_3D

    def statistic(drawn: Tensor) -> Tensor:
        chosen = drawn.long()
        nats = nats_D[chosen].sum(1)
        if name == "perplexity":
            return (nats / tokens_D[chosen].sum(1)).exp()
        return nats / math.log(2) / bytes_D[chosen].sum(1)

    return list(bootstrap_interval(range(len(nats_D)), seed=0, statistic=statistic))
