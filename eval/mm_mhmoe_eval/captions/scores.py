"""All scores of captions, for all pictures and for groups of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mm_mhmoe_eval.captions import official
from mm_mhmoe_eval.captions.bleu import Words, bleu, bleu_sums
from mm_mhmoe_eval.captions.cider import Cider
from mm_mhmoe_eval.captions.rouge import rouge_l
from mm_mhmoe_eval.captions.tokens import split_words
from mm_mhmoe_eval.results import bootstrap_interval

UNOFFICIAL = "_python"


@dataclass(frozen=True, kw_only=True)
class CaptionScores:
    """Scores by name. per_sample: of each picture in its order; intervals: 95% bootstrap over pictures."""

    metrics: dict[str, float]
    per_sample: dict[str, list[float]]
    intervals: dict[str, list[float]]


def score_captions(captions: Sequence[str], references: Sequence[Sequence[str]]) -> CaptionScores:
    """`cider_python`, `bleu_1_python` to `bleu_4_python`, `rouge_l_python` of words as `split_words` cuts them; where
    COCO's programs are there also `cider`, `bleu_1` to `bleu_4`, `rouge_l` and `meteor`, of words as they cut them.

    Args:
        captions: one a picture.
        references: of each picture, one or more.
    """
    ours = _scores(
        [split_words(caption) for caption in captions],
        [[split_words(reference) for reference in own] for own in references],
        UNOFFICIAL,
    )
    if official.missing():
        return ours
    flat = official.official_words([*captions, *(reference for own in references for reference in own)])
    words, rest = flat[: len(captions)], iter(flat[len(captions) :])
    cut = [[next(rest) for _ in own] for own in references]
    together, each = official.official_scores(words, cut)
    return CaptionScores(
        metrics=ours.metrics | together,
        per_sample=ours.per_sample | each,
        intervals=ours.intervals | _scores(words, cut, "").intervals,
    )


def _scores(captions: Sequence[Words], references: Sequence[Sequence[Words]], ending: str) -> CaptionScores:
    cider = Cider(references)
    each = {
        f"cider{ending}": [cider.score(caption, own) for caption, own in zip(captions, references, strict=True)],
        f"rouge_l{ending}": [rouge_l(caption, own) for caption, own in zip(captions, references, strict=True)],
    }
    sums_NS = bleu_sums(captions, references)
    names = [f"bleu_{size}{ending}" for size in (1, 2, 3, 4)]
    metrics = {name: sum(values) / len(values) for name, values in each.items()}
    metrics |= dict(zip(names, bleu(sums_NS.sum(0, keepdim=True))[0].tolist(), strict=True))
    intervals = {name: list(bootstrap_interval(values, seed=0)) for name, values in each.items()}
    intervals[names[-1]] = list(
        bootstrap_interval(
            range(len(captions)), seed=0, statistic=lambda drawn_DN: bleu(sums_NS[drawn_DN.long()].sum(1))[:, -1]
        )
    )
    return CaptionScores(metrics=metrics, per_sample=each, intervals=intervals)
