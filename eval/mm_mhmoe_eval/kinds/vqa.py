"""Questions about pictures. Legend: B batch, A answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mm_mhmoe_data.ordered import iterate_vqa
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.vqa_data import read_vqa

from mm_mhmoe_eval.kinds.scored import Scored, ScoredData
from mm_mhmoe_eval.protocol import AnswersQuestions
from mm_mhmoe_eval.results import bootstrap_interval
from mm_mhmoe_eval.vqa import official_results, question_only_baseline, vqa_scores


def score(model: Any, data: ScoredData) -> Scored:
    if not isinstance(model, AnswersQuestions):
        raise ValueError(f"{type(model).__name__} does not answer questions; a vqa task needs a VQA model")
    examples = list(read_vqa(data.paths["test_questions"], data.paths["test_annotations"]))[: data.limit]
    dataset = ShardDataset(str(data.paths["test"]))
    answers = list(model.answers)
    predictions: dict[int, str] = {}
    likeliest: dict[int, list[str]] = {}
    batches = iterate_vqa(dataset, examples, answers, data.tokenizer, model.vision, model.text, data.batch_size)
    for batch in batches:
        logits_BA = model.answer_logits(batch.pairs.to(data.device)).float().cpu()
        for number, best in zip(batch.question_ids, logits_BA.topk(min(3, len(answers))).indices.tolist(), strict=True):
            predictions[number] = answers[best[0]]
            likeliest[number] = [answers[i] for i in best]
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
    return Scored(
        metrics=metrics,
        intervals={"vqa": list(bootstrap_interval(per_sample["vqa"], seed=0))},
        samples=samples,
        per_sample=per_sample,
        files={"results.json": json.dumps(official_results(predictions), ensure_ascii=False) + "\n"},
    )


def _answerable(examples: Sequence[Any], answers: Sequence[str]) -> float:
    """The score of always picking the best answer of the vocabulary: what the answer list allows at most."""
    known = set(answers)
    best: dict[int, str] = {}
    for example in examples:
        said = [answer for answer in example.answers if answer in known]
        best[example.question_id] = max(sorted(set(said)), key=said.count) if said else ""
    return vqa_scores(best, examples).overall
