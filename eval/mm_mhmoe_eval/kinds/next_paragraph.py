"""Which of four paragraphs follows, of held-out texts."""

from __future__ import annotations

from typing import Any

from mm_mhmoe_data.language import read_documents
from mm_mhmoe_data.pipeline import ShardDataset

from mm_mhmoe_eval.kinds.scored import Scored, ScoredData
from mm_mhmoe_eval.language.choices import score_choices
from mm_mhmoe_eval.language.questions import QUESTIONS, next_paragraph_questions
from mm_mhmoe_eval.language.sequences import predictor


def score(model: Any, data: ScoredData) -> Scored:
    predicts = predictor(model, "next_paragraph")
    documents = list(read_documents(ShardDataset(str(data.paths["test"]), "texts")))
    questions = next_paragraph_questions(documents, data.limit or QUESTIONS)
    if not questions:
        raise ValueError(f"{data.paths['test']} has too few documents of several paragraphs to ask about")
    return score_choices(predicts, questions, data)
