"""Perplexity of hidden patches and words, under masks that are the same for every model.

What is hidden depends on the sample's key alone, on a patch grid and, for texts, on a tokenizer. Perplexities compare
between models with the same text tokenizer and the same visual tokenizer; a record has checksums of both.
Legend: N samples, M hidden positions.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from mm_mhmoe_data.ordered import iterate_pairs
from mm_mhmoe_data.pipeline import Parts, ShardDataset
from torch import Tensor

from mm_mhmoe_eval.kinds.scored import Scored, ScoredData
from mm_mhmoe_eval.protocol import PredictsHidden
from mm_mhmoe_eval.results import bootstrap_interval

# Hidden shares of patches and of tokens, as BEiT-3 trains (arXiv 2208.10442, section 2.3).
SHARES: dict[Parts, tuple[float, float]] = {"images": (0.4, 0.0), "texts": (0.0, 0.15), "pairs": (0.4, 0.5)}


def score(model: Any, data: ScoredData) -> Scored:
    if not isinstance(model, PredictsHidden):
        raise ValueError(
            f"{type(model).__name__} does not predict what is hidden; a masked task needs a pretrained model that was "
            "not fine-tuned"
        )
    dataset = ShardDataset(str(data.paths["test"]))
    count = len(dataset) if data.limit is None else min(data.limit, len(dataset))
    if not count:
        raise ValueError(f"{data.paths['test']} holds no pairs")
    tables: dict[str, _Table] = {}
    for stream, (image_mask, text_mask) in SHARES.items():
        start = 0
        for batch in iterate_pairs(
            dataset,
            **data.inputs(model),
            stream=stream,
            image_mask=image_mask,
            text_mask=text_mask,
            chosen=range(count),
        ):
            for name, hidden in model.predict_hidden(batch.to(data.device), stream).items():
                tables.setdefault(name, _Table(count)).add(start, hidden.rows_M, hidden.nats_M, hidden.correct_M)
            start += len(batch)
    metrics = {name: value for key, table in tables.items() for name, value in table.metrics(key).items()}
    together = sum(tables.values(), _Table(count))
    keys = [str(key) for key in dataset.keys[:count]]
    return Scored(
        metrics=metrics | together.metrics(""),
        intervals={f"{key}_perplexity": table.interval() for key, table in tables.items()},
        samples=[
            {"key": key} | {f"{name}_nats": table.mean_N[n].item() for name, table in tables.items()}
            for n, key in enumerate(keys)
        ],
        per_sample={f"{name}_nats": table.mean_N.tolist() for name, table in tables.items()},
    )


class _Table:
    """Sums over the hidden positions of each sample."""

    def __init__(self, samples: int) -> None:
        self.sums_3N = torch.zeros(3, samples, dtype=torch.float64)

    def add(self, start: int, rows_M: Tensor, nats_M: Tensor, correct_M: Tensor) -> None:
        """Of a batch whose first row is sample number `start`."""
        each_3M = torch.stack([torch.ones_like(nats_M), nats_M, correct_M.to(nats_M.dtype)]).double().cpu()
        self.sums_3N.index_add_(1, rows_M.cpu() + start, each_3M)

    def __add__(self, other: _Table) -> _Table:
        both = _Table(self.sums_3N.shape[1])
        both.sums_3N = self.sums_3N + other.sums_3N
        return both

    @property
    def mean_N(self) -> Tensor:
        """Nats a hidden position of each sample; 0 where none is hidden."""
        return self.sums_3N[1] / self.sums_3N[0].clamp(min=1)

    def metrics(self, name: str) -> dict[str, float]:
        positions, nats, correct = self.sums_3N.sum(1).tolist()
        before = f"{name}_" if name else ""
        return {
            f"{before}perplexity": math.exp(nats / positions),
            f"{before}accuracy": correct / positions,
            f"{before}hidden_count": positions,
        }

    def interval(self) -> list[float]:
        """95% bootstrap over samples of the perplexity."""
        count_N, nats_N, _ = self.sums_3N

        def perplexity(drawn: Tensor) -> Tensor:
            chosen = drawn.long()
            return (nats_N[chosen].sum(1) / count_N[chosen].sum(1)).exp()

        return list(bootstrap_interval(range(len(count_N)), seed=0, statistic=perplexity))
