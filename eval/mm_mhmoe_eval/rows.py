"""Rows of the report's table from result records."""

from __future__ import annotations

from collections.abc import Sequence

from mm_mhmoe_eval.report_data import Role, ScoreRow
from mm_mhmoe_eval.results import ResultRecord

_SHOWN = ("image_retrieval_recall@", "text_retrieval_recall@", "vqa_answer_type/", "vqa_question_type/")


def score_row(name: str, role: Role, records: Sequence[ResultRecord], *, note: str = "") -> ScoreRow:
    """One row out of the records of one model: any tasks, any seeds, values in the order of the seeds.

    Raises ValueError when a seed has a metric twice.
    """
    by_metric: dict[str, dict[int, float]] = {}
    for record in records:
        for metric, value in record.metrics.items():
            if metric == "vqa" or metric.startswith(_SHOWN):
                seeds = by_metric.setdefault(metric, {})
                if record.seed in seeds:
                    raise ValueError(f"row {name!r}: seed {record.seed} has {metric} twice; give each record once")
                seeds[record.seed] = value
    scores = {metric: [seeds[seed] for seed in sorted(seeds)] for metric, seeds in by_metric.items()}
    return ScoreRow(name=name, role=role, scores=scores, per_sample=_mean_over_seeds(records, scores), note=note)


def _mean_over_seeds(records: Sequence[ResultRecord], scores: dict[str, list[float]]) -> dict[str, list[float]]:
    """The mean score of each sample, for metrics whose samples are known, and the same, in every seed."""
    means = {}
    for metric, seeds in scores.items():
        columns = [record.per_sample[metric] for record in records if metric in record.per_sample]
        if len(columns) == len(seeds) and len({len(column) for column in columns}) == 1:
            means[metric] = [sum(of_sample) / len(seeds) for of_sample in zip(*columns, strict=True)]
    return means


def chance_row(record: ResultRecord, *, name: str = "Chance", note: str = "a random ranking") -> ScoreRow:
    """What a random ranking would score, from a retrieval record."""
    chance = {key.replace("_chance@", "_recall@"): [v] for key, v in record.metrics.items() if "_chance@" in key}
    return ScoreRow(name=name, role="chance", scores=chance, note=note)


def question_only_row(
    record: ResultRecord,
    *,
    name: str = "Question only",
    note: str = "the best answers without the picture",
) -> ScoreRow:
    """What answering blind would score, from a VQA record."""
    prefix = "question_only/"
    scores = {key.removeprefix(prefix): [v] for key, v in record.metrics.items() if key.startswith(prefix)}
    samples = {key.removeprefix(prefix): v for key, v in record.per_sample.items() if key.startswith(prefix)}
    return ScoreRow(name=name, role="question_only", scores=scores, per_sample=samples, note=note)


def question_type_counts(record: ResultRecord) -> dict[str, int]:
    """Questions of each type, from a VQA record."""
    prefix = "vqa_question_type_count/"
    return {k.removeprefix(prefix): int(v) for k, v in record.metrics.items() if k.startswith(prefix)}
