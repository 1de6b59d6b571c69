"""What lm-eval found, as this project's records. Metrics keep lm-eval's names."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from mm_mhmoe_eval.metric_names import scored_per_sample
from mm_mhmoe_eval.results import ResultRecord, bootstrap_interval, environment, git_hash, now
from mm_mhmoe_eval.runner import Evaluation, ModelFacts

PREFIX = "lm_eval:"
"""How lm-eval's tasks are named among others."""

KIND = "lm_eval"


def evaluations(
    results: Mapping[str, Any],
    *,
    facts: ModelFacts,
    seed: int,
    config: Mapping[str, Any],
    lm_eval_version: str,
    seconds: float,
) -> list[Evaluation]:
    """One of each task, and of each group that lm-eval gives scores of its own.

    Args:
        results: of `lm_eval.simple_evaluate`, with samples.
        config: what the records say of the evaluation.
        seconds: that all tasks took together; a record gets its share by its samples.
    """
    counts = {name: _count(name, results) for name in results["results"]}
    rate = sum(results["n-samples"][name]["effective"] for name in results["n-samples"]) / seconds
    found = []
    for name, row in results["results"].items():
        metrics = _metrics(row)
        if not metrics:  # a group whose tasks have nothing in common
            continue
        samples = [_plain(sample) for sample in results["samples"].get(name, [])]
        per_sample = _per_sample(samples)
        task_version = results["versions"].get(name)
        options = {"num_fewshot": results["n-shot"].get(name), "version": str(task_version)}
        record = ResultRecord(
            task=PREFIX + name,
            task_version=_whole(task_version),
            kind=KIND,
            model=facts.name,
            model_dir=facts.directory,
            metrics=metrics,
            intervals={
                metric: list(bootstrap_interval(values, seed=0))
                for metric, values in per_sample.items()
                if metric in metrics and math.isclose(math.fsum(values) / len(values), metrics[metric], abs_tol=1e-9)
            },
            per_sample={metric: [round(value, 4) for value in values] for metric, values in per_sample.items()},
            samples=counts[name],
            seed=seed,
            config={"model": facts.config, **config, "options": options},
            git_hash=git_hash(Path(__file__).parent),
            parameters_total=facts.parameters_total,
            parameters_active=facts.parameters_active,
            flops_per_sample=facts.flops_per_sample,
            wall_seconds=round(counts[name] / rate, 3),
            samples_per_second=round(rate, 2),
            headline=list(metrics),
            checksums={"test": _prompts(samples), **facts.checksums} if samples else facts.checksums,
            environment={**environment(), "lm_eval": lm_eval_version},
            date=now(),
        )
        found.append(Evaluation(record=record, samples=samples))
    return found


def _count(name: str, results: Mapping[str, Any]) -> int:
    if name in results["n-samples"]:
        return int(results["n-samples"][name]["effective"])
    return sum(_count(member, results) for member in results["group_subtasks"][name])


def _metrics(row: Mapping[str, Any]) -> dict[str, float]:
    """Those that are numbers; their names are `metric,filter`, of which the filter `none` goes without saying."""
    return {
        _name(*key.split(",", 1)): float(value)
        for key, value in row.items()
        if "," in key and isinstance(value, (int, float)) and math.isfinite(value)
    }


def _name(metric: str, filter_name: str) -> str:
    return metric if filter_name == "none" else f"{metric},{filter_name}"


def _per_sample(samples: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    found: defaultdict[str, list[float]] = defaultdict(list)
    for sample in samples:
        for metric in sample["metrics"]:
            value = sample[metric]
            if metric.endswith("perplexity"):
                value = _nats(value)
            elif metric == "bits_per_byte":
                value = _nats(value) / math.log(2)
            if isinstance(value, (int, float)):  # others mean something over all samples only
                found[_name(scored_per_sample(metric), sample["filter"])].append(float(value))
    return dict(found)


def _nats(value: float | Sequence[float]) -> float:
    """Of a log-likelihood; of one and the words or bytes that it is of, nats a word or byte."""
    likelihood, size = (value, 1) if isinstance(value, (int, float)) else value
    return -likelihood / max(1, size)


def _prompts(samples: Sequence[Mapping[str, Any]]) -> str:
    """sha256 of all that was asked: documents, prompts with their examples, and targets."""
    asked = [[sample[name] for name in ("doc_hash", "prompt_hash", "target_hash")] for sample in samples]
    return sha256(json.dumps(asked).encode()).hexdigest()


def _plain(sample: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON has it; what JSON has no word for becomes text."""
    return json.loads(json.dumps(sample, default=str))


def _whole(task_version: Any) -> int:
    """Records count versions in whole numbers; lm-eval's own is among the options, and changed prompts show anyway."""
    try:
        return int(float(task_version))
    except (TypeError, ValueError):
        return 0
