"""Questions about pictures, answered from a fixed list. Legend: B batch, A answers."""

from __future__ import annotations

from typing import Any

from mm_mhmoe_data.ordered import iterate_vqa
from mm_mhmoe_data.pipeline import ShardDataset

from mm_mhmoe_eval.kinds.answered import read_asked, scored_answers
from mm_mhmoe_eval.kinds.scored import Scored, ScoredData
from mm_mhmoe_eval.protocol import AnswersQuestions


def score(model: Any, data: ScoredData) -> Scored:
    if not isinstance(model, AnswersQuestions):
        raise ValueError(f"{type(model).__name__} does not answer questions; a vqa task needs a VQA model")
    examples = read_asked(data)
    dataset = ShardDataset(str(data.paths["test"]), "images")
    answers = list(model.answers)
    likeliest: dict[int, list[str]] = {}
    for batch in iterate_vqa(dataset, examples, answers, **data.inputs(model)):
        logits_BA = model.answer_logits(batch.pairs.to(data.device)).float().cpu()
        for number, best in zip(batch.question_ids, logits_BA.topk(min(3, len(answers))).indices.tolist(), strict=True):
            likeliest[number] = [answers[i] for i in best]
    return scored_answers(data, examples, likeliest, answers)
