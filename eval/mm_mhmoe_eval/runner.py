"""Scores a model on a task: data in, record and samples out.

Legend: B batch, E embedding, A answers, M images, N texts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from mm_mhmoe_data.ordered import iterate_pairs, iterate_vqa
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.shards import expand_shards
from mm_mhmoe_data.vqa_data import read_vqa
from torch import nn

from mm_mhmoe_eval.files import write_text_atomic
from mm_mhmoe_eval.protocol import AnswersQuestions, EmbedsPairs
from mm_mhmoe_eval.results import (
    ResultRecord,
    bootstrap_interval,
    environment,
    git_hash,
    now,
    sha256_file,
    write_record,
)
from mm_mhmoe_eval.retrieval import retrieval_ranks, scores_from_ranks, top_k
from mm_mhmoe_eval.tasks import Task
from mm_mhmoe_eval.vqa import official_results, question_only_baseline, vqa_scores

_KS = (1, 5, 10)


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a record says about the model.

    config: its own configuration; flops_per_sample: of one pair, forward.
    """

    name: str
    directory: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    parameters_total: int | None = None
    parameters_active: int | None = None
    flops_per_sample: float | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A record, one dict a sample for a closer look, and for VQA the results that the VQA server takes."""

    record: ResultRecord
    samples: list[dict[str, Any]]
    official: list[dict[str, Any]] | None = None


@dataclass(frozen=True, kw_only=True)
class _Scored:
    metrics: dict[str, float]
    intervals: dict[str, list[float]]
    samples: list[dict[str, Any]]
    per_sample: dict[str, list[float]]
    official: list[dict[str, Any]] | None = None


def evaluate(
    model: object,
    task: Task,
    *,
    tokenizer: Any,
    facts: ModelFacts,
    data_dir: str | Path | None = None,
    data: Mapping[str, str | Path] | None = None,
    batch_size: int = 64,
    limit: int | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> Evaluation:
    """Scores the model on the task's test split.

    Args:
        model: `EmbedsPairs` for a retrieval task, `AnswersQuestions` for a vqa task; in eval mode while it is
            scored.
        task: from `load_task`.
        tokenizer: of the model, as `mm_mhmoe_data` has them.
        facts: what the record says about the model.
        data_dir: directory that the task's paths start from; None: the demo data of mm_mhmoe_data.
        data: paths that replace the task's own, by name (test, test_questions, ...), relative to the working
            directory. Without training questions of their own, other test questions get no baseline.
        batch_size: pairs at a time.
        limit: only the first so many pairs or questions, for a quick look; the record says so in its config.
            Fewer candidates make retrieval easier.
        device: where batches go; the model must be there already.
        seed: of the run that made the model, for the record.

    Raises ValueError when the model lacks the task's methods, or for data that is not there.
    """
    if batch_size < 1 or (limit is not None and limit < 1):
        raise ValueError(f"batch_size={batch_size} and limit={limit} must be 1 or more")
    paths = _paths(task, data_dir, data or {})
    started = time.perf_counter()
    with _scoring(model):
        if task.kind == "retrieval":
            scored = _retrieval(model, paths, tokenizer, batch_size, limit, device)
        else:
            scored = _vqa(model, paths, tokenizer, batch_size, limit, device)
    seconds = time.perf_counter() - started
    total = facts.parameters_total
    if total is None and isinstance(model, nn.Module):
        total = sum(parameter.numel() for parameter in model.parameters())
    record = ResultRecord(
        task=task.name,
        task_version=task.version,
        model=facts.name,
        model_dir=facts.directory,
        metrics=scored.metrics,
        intervals=scored.intervals,
        per_sample={name: [round(value, 4) for value in values] for name, values in scored.per_sample.items()},
        samples=len(scored.samples),
        seed=seed,
        config={"model": facts.config, "batch_size": batch_size, "limit": limit},
        git_hash=git_hash(Path(__file__).parent),
        parameters_total=total,
        parameters_active=facts.parameters_active,
        flops_per_sample=facts.flops_per_sample,
        wall_seconds=round(seconds, 3),
        checksums=_checksums(paths),
        environment=environment(),
        date=now(),
    )
    return Evaluation(record=record, samples=scored.samples, official=scored.official)


def write_evaluation(evaluation: Evaluation, directory: str | Path, *, log_samples: bool = False) -> Path:
    """Writes `<task>.json`, for VQA `<task>.results.json`, and on demand `<task>.samples.jsonl`; returns the
    record's path.

    The record is written last, so that where it is, the others are whole.
    """
    name, directory = evaluation.record.task, Path(directory)
    if evaluation.official is not None:
        text = json.dumps(evaluation.official, ensure_ascii=False)
        write_text_atomic(directory / f"{name}.results.json", text + "\n")
    if log_samples:
        lines = [json.dumps(sample, ensure_ascii=False) + "\n" for sample in evaluation.samples]
        write_text_atomic(directory / f"{name}.samples.jsonl", "".join(lines))
    write_record(evaluation.record, directory / f"{name}.json")
    return directory / f"{name}.json"


def _retrieval(
    model: Any,
    paths: Mapping[str, str | Path],
    tokenizer: Any,
    batch_size: int,
    limit: int | None,
    device: torch.device | str,
) -> _Scored:
    if not isinstance(model, EmbedsPairs):
        raise ValueError(
            f"{type(model).__name__} does not embed pictures and texts; a retrieval task needs a retrieval model"
        )
    dataset = ShardDataset(str(paths["test"]))
    images, texts, count = [], [], 0
    for batch in iterate_pairs(dataset, tokenizer, model.vision, model.text, batch_size):
        assert batch.images is not None and batch.texts is not None
        images.append(model.embed_images(batch.images.to(device)).float().cpu())
        texts.append(model.embed_texts(batch.texts.to(device)).float().cpu())
        count += len(batch)
        if limit is not None and count >= limit:
            break
    if not images:
        raise ValueError(f"{paths['test']} holds no pairs")
    image_ME, text_NE = torch.cat(images)[:limit], torch.cat(texts)[:limit]
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
    return _Scored(
        metrics=scores_from_ranks(ranks, own_N, _KS),
        intervals={name: list(bootstrap_interval(values, seed=0)) for name, values in hits.items()},
        samples=samples,
        per_sample={name: values for name, values in hits.items() if name.endswith("@10")},
    )


def _vqa(
    model: Any,
    paths: Mapping[str, str | Path],
    tokenizer: Any,
    batch_size: int,
    limit: int | None,
    device: torch.device | str,
) -> _Scored:
    if not isinstance(model, AnswersQuestions):
        raise ValueError(f"{type(model).__name__} does not answer questions; a vqa task needs a VQA model")
    examples = list(read_vqa(paths["test_questions"], paths["test_annotations"]))[:limit]
    dataset = ShardDataset(str(paths["test"]))
    answers = list(model.answers)
    predictions: dict[int, str] = {}
    likeliest: dict[int, list[str]] = {}
    batches = iterate_vqa(dataset, examples, answers, tokenizer, model.vision, model.text, batch_size)
    for batch in batches:
        logits_BA = model.answer_logits(batch.pairs.to(device)).float().cpu()
        for number, best in zip(batch.question_ids, logits_BA.topk(min(3, len(answers))).indices.tolist(), strict=True):
            predictions[number] = answers[best[0]]
            likeliest[number] = [answers[i] for i in best]
    scores = vqa_scores(predictions, examples)
    metrics = scores.metrics() | {"vqa_questions": float(scores.questions)}
    metrics |= {f"vqa_question_type_count/{name}": float(n) for name, n in scores.question_type_counts.items()}
    metrics["vqa_answerable"] = _answerable(examples, answers)
    per_sample: dict[str, list[float]] = {}
    if "train_questions" in paths and "train_annotations" in paths:
        train = read_vqa(paths["train_questions"], paths["train_annotations"])
        blind = question_only_baseline(train, examples)
        metrics |= {f"question_only/{name}": value for name, value in blind.scores.metrics().items()}
        per_sample["question_only/vqa"] = [blind.scores.by_question[example.question_id] for example in examples]
    samples = [
        {
            "question_id": example.question_id,
            "image_key": example.image_key,
            "question": example.question,
            "question_type": example.question_type,
            "answer_type": example.answer_type,
            "answers": list(example.answers),
            "answer": predictions[example.question_id],
            "top": likeliest[example.question_id],
            "score": scores.by_question[example.question_id],
        }
        for example in examples
    ]
    per_sample["vqa"] = [scores.by_question[example.question_id] for example in examples]
    return _Scored(
        metrics=metrics,
        intervals={"vqa": list(bootstrap_interval(per_sample["vqa"], seed=0))},
        samples=samples,
        per_sample=per_sample,
        official=official_results(predictions),
    )


def _answerable(examples: Sequence[Any], answers: Sequence[str]) -> float:
    """The score of always picking the best answer of the vocabulary: what the answer list allows at most."""
    known = set(answers)
    best: dict[int, str] = {}
    for example in examples:
        said = [answer for answer in example.answers if answer in known]
        best[example.question_id] = max(sorted(set(said)), key=said.count) if said else ""
    return vqa_scores(best, examples).overall


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
    if "test_questions" in data:  # the task's own training questions say nothing about other test questions
        paths = {name: path for name, path in paths.items() if not name.startswith("train_") or name in data}
    if "test" in data and task.kind == "vqa" and not {"test_questions", "test_annotations"} <= set(data):
        raise ValueError("data: test is given without test_questions and test_annotations; give all three")
    return paths


def _checksums(paths: Mapping[str, str | Path]) -> dict[str, str]:
    sums: dict[str, str] = {}
    for name, path in sorted(paths.items()):
        if name == "test":
            sums |= {f"{name}/{shard.name}": shard.use(sha256_file) for shard in expand_shards(str(path))}
        else:
            sums[f"{name}/{Path(path).name}"] = sha256_file(Path(path))
    return sums
