"""What a metric's name says about its values: how they are printed, and which are better."""

from __future__ import annotations

_LOWER_IS_BETTER = ("perplexity", "_rank", "_nats", "nats_per_token", "bits_per_byte")
_UP_TO_100 = ("bleu", "chrf", "ter")  # lm-eval's metrics of translations
_LESS_IS_BETTER = ("ter", "brier_score")
_COUNTS = (
    "_count",
    "_queries",
    "_candidates",
    "_questions",
    "classes",
    "templates",
    "languages",
    "_pictures",
    "mean_words",
)
_CHANCE, _RECALL = "_chance@", "_recall@"


def is_share(name: str) -> bool:
    """Whether the metric is a fraction, to be printed as percent."""
    stem = _stem(name)
    return not stem.endswith((*_LOWER_IS_BETTER, *_COUNTS)) and stem not in _UP_TO_100


def shown(name: str, value: float, digits: int = 1) -> str:
    """As tables print it: percent without its sign, other values with two digits."""
    return f"{100 * value:.{digits}f}" if is_share(name) else f"{value:.2f}"


def lower_is_better(name: str) -> bool:
    stem = _stem(name)
    return stem.endswith(_LOWER_IS_BETTER) or stem in _LESS_IS_BETTER


def _stem(name: str) -> str:
    """Without the filter of lm-eval's `metric,filter`, which changes neither unit nor direction."""
    return name.partition(",")[0]


def scored_per_sample(name: str) -> str:
    """Under which name a record keeps the metric's value of each sample."""
    return f"{name.removesuffix('perplexity')}nats" if name.endswith("perplexity") else name


def baselines(metrics: dict[str, float], names: list[str]) -> dict[str, dict[str, float]]:
    """Rows that need no model, in a record's metrics: {"question_only": {"vqa": .3}} of `question_only/vqa`.

    A random ranking's `*_chance@k` is the `chance` of `*_recall@k`.
    """
    rows: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        row, _, name = key.partition("/")
        if name in names:
            rows.setdefault(row, {})[name] = value
        elif _CHANCE in key and (name := key.replace(_CHANCE, _RECALL)) in names:
            rows.setdefault("chance", {})[name] = value
    return rows
