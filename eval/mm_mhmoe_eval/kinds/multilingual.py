"""Retrieval by captions in many languages, each on its own. Legend: M images, N texts of one language.

The captions are those of each sample's .json: {"captions": {"en": "...", "fr": "..."}}.
"""

from __future__ import annotations

from typing import Any

import torch
from mm_mhmoe_data.pipeline import ShardDataset

from mm_mhmoe_eval.kinds.embedded import check_embeds, counted, embed_images, embed_texts
from mm_mhmoe_eval.kinds.retrieval import hits_of, interval
from mm_mhmoe_eval.kinds.scored import Scored, ScoredData
from mm_mhmoe_eval.retrieval import retrieval_ranks, scores_from_ranks

_KS = (1, 5, 10)
FEWEST = 20
"""Captions below which a language is left out: its recalls would be noise."""


def score(model: Any, data: ScoredData) -> Scored:
    """Recalls of each language (`.../fr`), and their means over languages.

    All pictures are candidates for a caption, whatever the language; a picture's candidates are the captions of that
    language, so chance differs between languages from picture to text, and is told.
    """
    check_embeds(model)
    dataset = ShardDataset(str(data.paths["test"]), "images")
    rows = range(counted(dataset, data))
    said = [_captions(dataset, row) for row in rows]
    image_ME = embed_images(model, dataset, data, rows)
    metrics: dict[str, float] = {}
    intervals: dict[str, list[float]] = {}
    samples: list[dict[str, Any]] = []
    languages = [
        language
        for language in sorted({language for captions in said for language in captions})
        if sum(language in captions for captions in said) >= FEWEST
    ]
    if not languages:
        raise ValueError(f"{data.paths['test']} has no language with captions of {FEWEST} pictures or more")
    for language in languages:
        text_image_N = torch.tensor([row for row in rows if language in said[row]])
        texts = [said[row][language] for row in text_image_N.tolist()]
        ranks = retrieval_ranks(image_ME, embed_texts(model, texts, data), text_image_N)
        found = scores_from_ranks(ranks, text_image_N, _KS)
        metrics |= {f"{name}/{language}": value for name, value in found.items() if "median" not in name}
        intervals |= {f"{name}/{language}": interval(hits) for name, hits in hits_of(ranks).items()}
        samples += [
            {
                "language": language,
                "key": str(dataset.keys[row]),
                "caption": text,
                "image_rank": int(ranks.image_N[n]),
                "text_rank": int(ranks.text_M[row]),
            }
            for n, (row, text) in enumerate(zip(text_image_N.tolist(), texts, strict=True))
        ]
    metrics |= {
        f"{side}_retrieval_{what}@{k}": sum(metrics[f"{side}_retrieval_{what}@{k}/{name}"] for name in languages)
        / len(languages)
        for side in ("image", "text")
        for what in ("recall", "chance")
        for k in _KS
    }
    metrics["languages"] = float(len(languages))
    return Scored(metrics=metrics, intervals=intervals, samples=samples, per_sample={})


def _captions(dataset: ShardDataset, row: int) -> dict[str, str]:
    captions = dataset.metadata(row).get("captions")
    if not isinstance(captions, dict) or not all(isinstance(text, str) for text in captions.values()):
        raise ValueError(
            f"sample {dataset.keys[row]} has no captions by language in its .json; data build tuxpaint writes them"
        )
    return {language: text for language, text in captions.items() if text.strip()}
