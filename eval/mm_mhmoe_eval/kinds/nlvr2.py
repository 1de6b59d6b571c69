"""Sentences about two pictures. Legend: B batch, C classes."""

from __future__ import annotations

from typing import Any

from mm_mhmoe_data.ordered import iterate_nlvr2
from mm_mhmoe_data.statements import Statements, read_statements

from mm_mhmoe_eval.kinds.scored import Scored, ScoredData
from mm_mhmoe_eval.nlvr2 import guessing_consistency, nlvr2_scores, predictions_csv, sentence_only_baseline
from mm_mhmoe_eval.protocol import JudgesStatements
from mm_mhmoe_eval.results import bootstrap_interval


def score(model: Any, data: ScoredData) -> Scored:
    if not isinstance(model, JudgesStatements):
        raise ValueError(
            f"{type(model).__name__} does not judge sentences about two pictures; an nlvr2 task needs an NLVR2 model"
        )
    held = read_statements(data.paths["test"], data.paths.get("test_statements"))
    count = len(held.rows) if data.limit is None else min(data.limit, len(held.rows))
    test = Statements(held.dataset, [held.rows[i] for i in range(count)])
    likely: dict[str, float] = {}
    for batch in iterate_nlvr2(test, **data.inputs(model)):
        logits_BC = model.judge(batch.left.to(data.device), batch.right.to(data.device)).float().cpu()
        likely |= zip(batch.identifiers, logits_BC.softmax(dim=1)[:, 1].tolist(), strict=True)
    predictions = {identifier: value > 0.5 for identifier, value in likely.items()}
    scores = nlvr2_scores(predictions, test.rows)
    metrics = {"nlvr2_accuracy": scores.accuracy, "nlvr2_consistency": scores.consistency}
    metrics |= {f"nlvr2_type/{name}": value for name, value in scores.by_type.items()}
    metrics |= {f"nlvr2_type_count/{name}": float(number) for name, number in scores.type_counts.items()}
    metrics["chance/nlvr2_accuracy"] = 0.5
    metrics["chance/nlvr2_consistency"] = guessing_consistency(likely)
    per_sample = {"nlvr2_accuracy": [float(right) for right in scores.by_statement]}
    if "train" in data.paths:
        train = read_statements(data.paths["train"], data.paths.get("train_statements"))
        blind = sentence_only_baseline(train.rows, test.rows)
        metrics["sentence_only/nlvr2_accuracy"] = blind.accuracy
        metrics["sentence_only/nlvr2_consistency"] = blind.consistency
        per_sample["sentence_only/nlvr2_accuracy"] = [float(right) for right in blind.by_statement]
    consistent = [float(value) for value in scores.by_group.values()]
    return Scored(
        metrics=metrics,
        intervals={
            "nlvr2_accuracy": list(bootstrap_interval(per_sample["nlvr2_accuracy"], seed=0)),
            "nlvr2_consistency": list(bootstrap_interval(consistent, seed=0)),
        },
        samples=[
            {
                "identifier": statement.identifier,
                "sentence": statement.sentence,
                "type": statement.type,
                "left": held.dataset.keys[statement.left.sample],
                "right": held.dataset.keys[statement.right.sample],
                "label": statement.label,
                "probability": likely[statement.identifier],
                "correct": right,
            }
            for statement, right in zip(test.rows, scores.by_statement, strict=True)
        ],
        per_sample=per_sample,
        files={"predictions.csv": predictions_csv(predictions)},
    )
