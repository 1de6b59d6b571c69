"""Scores a model on a task: data in, record and samples out."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from mm_mhmoe_data.shards import expand_shards
from torch import nn

from mm_mhmoe_eval.files import write_text_atomic
from mm_mhmoe_eval.kinds import KINDS, ScoredData
from mm_mhmoe_eval.protocol import PreparesInputs
from mm_mhmoe_eval.results import (
    ResultRecord,
    environment,
    git_hash,
    now,
    sha256_file,
    write_record,
)
from mm_mhmoe_eval.tasks import Task


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a record says about the model.

    config: its own configuration; flops_per_sample: of one pair, forward; checksums: sha256 of further files that the
    scores depend on (its tokenizers), by name.
    """

    name: str
    directory: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    parameters_total: int | None = None
    parameters_active: int | None = None
    flops_per_sample: float | None = None
    checksums: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A record, one dict a sample for a closer look, and further files by their ending (`Scored.files`)."""

    record: ResultRecord
    samples: list[dict[str, Any]]
    files: Mapping[str, str] = field(default_factory=dict)


def evaluate(
    model: object,
    task: Task,
    *,
    facts: ModelFacts,
    tokenizer: Any = None,
    data_dir: str | Path | None = None,
    data: Mapping[str, str | Path] | None = None,
    batch_size: int = 64,
    limit: int | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    workers: int = 0,
) -> Evaluation:
    """Scores the model on the task's test split.

    Args:
        model: `EmbedsPairs` for a retrieval task, `AnswersQuestions` for a vqa task; in eval mode while it is
            scored.
        task: from `load_task`.
        facts: what the record says about the model.
        tokenizer: of the model, as `mm_mhmoe_data` has them; of no use to one that `PreparesInputs`.
        data_dir: directory that the task's paths start from; None: the demo data of mm_mhmoe_data.
        data: paths that replace the task's own, by name (test, test_questions, ...), relative to the working
            directory. Without training questions of their own, other test questions get no baseline.
        batch_size: pairs at a time.
        limit: only the first so many pairs or questions, for a quick look; the record says so in its config.
            Fewer candidates make retrieval easier.
        device: where batches go; the model must be there already.
        seed: of the run that made the model, for the record.
        workers: processes that read and decode ahead; 0: this one does it between batches.

    Raises ValueError when the model lacks the task's methods, or for data that is not there.
    """
    if batch_size < 1 or (limit is not None and limit < 1):
        raise ValueError(f"batch_size={batch_size} and limit={limit} must be 1 or more")
    paths = _paths(task, data_dir, data or {})
    options = {**KINDS[task.kind].options, **task.options}
    own = model if isinstance(model, PreparesInputs) else None
    read = ScoredData(
        paths=paths,
        tokenizer=own.tokenizer if own else tokenizer,
        batch_size=batch_size,
        limit=limit,
        device=device,
        options=options,
        transform=own.transform if own else None,
        workers=workers,
    )
    started = time.perf_counter()
    with _scoring(model):
        scored = KINDS[task.kind].score(model, read)
    seconds = time.perf_counter() - started
    total = facts.parameters_total
    if total is None and isinstance(model, nn.Module):
        total = sum(parameter.numel() for parameter in model.parameters())
    record = ResultRecord(
        task=task.name,
        task_version=task.version,
        kind=task.kind,
        model=facts.name,
        model_dir=facts.directory,
        metrics=scored.metrics,
        intervals=scored.intervals,
        per_sample={name: [round(value, 4) for value in values] for name, values in scored.per_sample.items()},
        samples=len(scored.samples),
        seed=seed,
        config={
            "model": facts.config,
            "batch_size": batch_size,
            "limit": limit,
            **({"options": options} if options else {}),
        },
        git_hash=git_hash(Path(__file__).parent),
        parameters_total=total,
        parameters_active=facts.parameters_active,
        flops_per_sample=facts.flops_per_sample,
        wall_seconds=round(seconds, 3),
        samples_per_second=round(len(scored.samples) / seconds, 2),
        headline=[name for name in task.metrics if name in scored.metrics],
        checksums=_checksums(paths) | facts.checksums,
        environment=environment(),
        date=now(),
    )
    return Evaluation(record=record, samples=scored.samples, files=scored.files)


def write_evaluation(evaluation: Evaluation, directory: str | Path, *, log_samples: bool = False) -> Path:
    """Writes `<task>.json`, beside it the kind's further files (`<task>.results.json`), and on demand
    `<task>.samples.jsonl`; returns the record's path. Of a task's name, signs with a meaning in paths become `_`.

    The record is written last, so that where it is, the others are whole.
    """
    name, directory = re.sub(r"[^\w.-]", "_", evaluation.record.task), Path(directory)
    for ending, text in evaluation.files.items():
        write_text_atomic(directory / f"{name}.{ending}", text)
    if log_samples:
        lines = [json.dumps(sample, ensure_ascii=False) + "\n" for sample in evaluation.samples]
        write_text_atomic(directory / f"{name}.samples.jsonl", "".join(lines))
    write_record(evaluation.record, directory / f"{name}.json")
    return directory / f"{name}.json"


@contextmanager
def _scoring(model: Any) -> Iterator[None]:
    """Eval mode without gradients, and the mode that was there before afterwards."""
    training = isinstance(model, nn.Module) and model.training
    if training:
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        if training:
            model.train()


def _paths(task: Task, data_dir: str | Path | None, data: Mapping[str, str | Path]) -> dict[str, str | Path]:
    unknown = sorted(set(data) - set(task.data))
    if unknown:
        raise ValueError(f"data: {', '.join(unknown)} is not used by task {task.name}; it takes {', '.join(task.data)}")
    root = Path(str(resources.files("mm_mhmoe_data"))) / "demo" if data_dir is None else Path(data_dir)
    paths: dict[str, str | Path] = {name: data.get(name, root / path) for name, path in task.data.items()}
    if {"test", "test_questions"} & set(data):  # the task's own training data say nothing about other test data
        kept = {*data, *KINDS[task.kind].needs}
        paths = {name: path for name, path in paths.items() if not name.startswith("train") or name in kept}
    together = [name for name in KINDS[task.kind].together if name in task.data]
    if "test" in data and not set(together) <= set(data):
        raise ValueError(f"data: test is given without all of {', '.join(together)}; they belong together")
    return paths


def _checksums(paths: Mapping[str, str | Path]) -> dict[str, str]:
    sums: dict[str, str] = {}
    for name, path in sorted(paths.items()):
        if Path(path).is_file():
            sums[f"{name}/{Path(path).name}"] = sha256_file(Path(path))
        else:
            sums |= {f"{name}/{shard.name}": shard.use(sha256_file) for shard in expand_shards(str(path))}
    return sums
