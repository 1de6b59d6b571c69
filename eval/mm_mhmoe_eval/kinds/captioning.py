"""Captions that a model writes, against those that people gave."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mm_mhmoe_data.ordered import iterate_pairs
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.samples import captions_of

from mm_mhmoe_eval.captions import score_captions
from mm_mhmoe_eval.captions.cider import Cider
from mm_mhmoe_eval.captions.tokens import split_words
from mm_mhmoe_eval.kinds.scored import Scored, ScoredData
from mm_mhmoe_eval.protocol import Captions

# The one caption for all pictures is chosen among at most so many of the training set.
_MOST_TRAINING_CAPTIONS = 20_000


class _Described(NamedTuple):
    """A picture of the test set. references: none where people's captions are held back."""

    key: str
    image_id: int
    domain: str | None
    references: list[str]


def score(model: Any, data: ScoredData) -> Scored:
    if not isinstance(model, Captions):
        raise ValueError(f"{type(model).__name__} writes no captions; a captioning task needs a captioning model")
    dataset = ShardDataset(str(data.paths["test"]), "images")
    count = len(dataset) if data.limit is None else min(data.limit, len(dataset))
    pictures = [_described(dataset, index) for index in range(count)]
    without = [picture.key for picture in pictures if not picture.references]
    if 0 < len(without) < count:
        raise ValueError(f"{data.paths['test']}: {len(without)} pictures have no caption, the first is {without[0]}")
    captions: list[str] = []
    for batch in iterate_pairs(dataset, **data.inputs(model), stream="images", chosen=range(count)):
        assert batch.images is not None
        captions += map(data.tokenizer.decode, model.write_captions(batch.images.to(data.device)))
    files = {"results.json": _results(pictures, captions)}
    lengths = [len(split_words(caption)) for caption in captions]
    metrics = {
        "distinct_captions": len(set(captions)) / count,
        "mean_words": sum(lengths) / count,
    }
    samples: list[dict[str, Any]] = [
        {"key": picture.key, "image_id": picture.image_id, "caption": caption, "references": picture.references}
        for picture, caption in zip(pictures, captions, strict=True)
    ]
    if without:
        return Scored(metrics=metrics, intervals={}, samples=samples, per_sample={}, files=files)
    references = [picture.references for picture in pictures]
    scores = score_captions(captions, references)
    metrics |= scores.metrics
    per_sample = dict(scores.per_sample)
    for sample, cider in zip(samples, per_sample["cider_python"], strict=True):
        sample["cider_python"] = round(cider, 4)
    for domain in sorted({picture.domain for picture in pictures if picture.domain}):
        chosen = [n for n, picture in enumerate(pictures) if picture.domain == domain]
        of_domain = score_captions([captions[n] for n in chosen], [references[n] for n in chosen])
        metrics |= {f"{name}/{domain}": value for name, value in of_domain.metrics.items()}
        metrics[f"{domain}_count"] = float(len(chosen))
    if "train" in data.paths:
        same = score_captions([_typical_caption(data.paths["train"])] * count, references)
        metrics |= {f"blind/{name}": value for name, value in same.metrics.items()}
        per_sample |= {f"blind/{name}": values for name, values in same.per_sample.items()}
    return Scored(metrics=metrics, intervals=scores.intervals, samples=samples, per_sample=per_sample, files=files)


def _described(dataset: ShardDataset, index: int) -> _Described:
    facts, key = dataset.metadata(index), dataset.keys[index]
    given, domain = facts.get("image_id"), facts.get("domain")
    image_id = given if isinstance(given, int) else int(key) if key.isdecimal() else index
    return _Described(key, image_id, domain if isinstance(domain, str) else None, _captions(dataset, index))


def _captions(dataset: ShardDataset, index: int) -> list[str]:
    """One or several; none where the text is empty."""
    return [caption for caption in captions_of(dataset, index, "auto") if caption]


def _typical_caption(shards: str | Path) -> str:
    """What a model that never looks at the picture can say best: the training caption that is most like the others."""
    dataset = ShardDataset(str(shards))
    step = max(1, len(dataset) // _MOST_TRAINING_CAPTIONS)
    said = [_captions(dataset, index)[0] for index in range(0, len(dataset), step)]
    words = [split_words(caption) for caption in said]
    return said[words.index(list(Cider([[caption] for caption in words]).most_typical(words)))]


def _results(pictures: Sequence[_Described], captions: Sequence[str]) -> str:
    """What COCO's and NoCaps' servers take."""
    rows = [
        {"image_id": picture.image_id, "caption": caption} for picture, caption in zip(pictures, captions, strict=True)
    ]
    return json.dumps(rows, ensure_ascii=False) + "\n"
