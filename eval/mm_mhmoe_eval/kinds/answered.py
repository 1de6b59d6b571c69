"""Answers to questions, and what they are worth: shared by kinds of question answering."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mm_mhmoe_data.vqa_data import VQAExample, read_vqa

from mm_mhmoe_eval.kinds.scored import Scored, ScoredData
from mm_mhmoe_eval.results import bootstrap_interval
from mm_mhmoe_eval.vqa import official_results, question_only_baseline, vqa_scores


def read_asked(data: ScoredData) -> list[VQAExample]:
    """The test questions, with the answers of people where the task has them."""
    return read_vqa(data.paths["test_questions"], data.paths.get("test_annotations"))[: data.limit]


def scored_answers(
    data: ScoredData, examples: Sequence[VQAExample], likeliest: Mapping[int, Sequence[str]], answers: Sequence[str]
) -> Scored:
    """Scores by the official rules and the file of results that the VQA server takes.

    Where the task has no annotations (test-dev), there are no scores: the server has them.

    Args:
        likeliest: question id -> answers, best first, of which the first counts.
        answers: all that the model can give.
    """
    predictions = {number: best[0] for number, best in likeliest.items()}
    samples: list[dict[str, Any]] = [
        {
            "question_id": example.question_id,
            "image_key": example.image_key,
            "question": example.question,
            "question_type": example.question_type,
            "answer_type": example.answer_type,
            "answers": list(example.answers),
            "answer": predictions[example.question_id],
            "top": list(likeliest[example.question_id]),
        }
        for example in examples
    ]
    files = {"results.json": json.dumps(official_results(predictions), ensure_ascii=False) + "\n"}
    if "test_annotations" not in data.paths:
        metrics = {"vqa_questions": float(len(examples))}
        return Scored(metrics=metrics, intervals={}, samples=samples, per_sample={}, files=files)
    scores = vqa_scores(predictions, examples)
    metrics = scores.metrics() | {"vqa_questions": float(scores.questions)}
    metrics |= {f"vqa_question_type_count/{name}": float(n) for name, n in scores.question_type_counts.items()}
    metrics["vqa_answerable"] = _answerable(examples, answers)
    per_sample: dict[str, list[float]] = {}
    if "train_questions" in data.paths and "train_annotations" in data.paths:
        train = read_vqa(data.paths["train_questions"], data.paths["train_annotations"])
        blind = question_only_baseline(train, examples)
        metrics |= {f"question_only/{name}": value for name, value in blind.scores.metrics().items()}
        per_sample["question_only/vqa"] = [blind.scores.by_question[example.question_id] for example in examples]
    per_sample["vqa"] = [scores.by_question[example.question_id] for example in examples]
    return Scored(
        metrics=metrics,
        intervals={"vqa": list(bootstrap_interval(per_sample["vqa"], seed=0))},
        samples=[sample | {"score": scores.by_question[sample["question_id"]]} for sample in samples],
        per_sample=per_sample,
        files=files,
    )


def _answerable(examples: Sequence[VQAExample], answers: Sequence[str]) -> float:
    """The score of always picking the best answer of the vocabulary: what the answer list allows at most."""
    known = set(answers)
    best: dict[int, str] = {}
    for example in examples:
        said = [answer for answer in example.answers if answer in known]
        best[example.question_id] = max(sorted(set(said)), key=said.count) if said else ""
    return vqa_scores(best, examples).overall
