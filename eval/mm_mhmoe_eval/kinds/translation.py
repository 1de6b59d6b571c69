"""Which of four paragraphs is the translation of another, of held-out texts."""

from __future__ import annotations

from typing import Any

from mm_mhmoe_eval.kinds.language.choices import score_choices
from mm_mhmoe_eval.kinds.language.documents import held_out_documents
from mm_mhmoe_eval.kinds.language.questions import translation_questions
from mm_mhmoe_eval.kinds.language.sequences import predictor
from mm_mhmoe_eval.kinds.scored import Scored, ScoredData


def score(model: Any, data: ScoredData) -> Scored:
    predicts = predictor(model, "translation")
    most = min(data.options["questions"], data.limit or data.options["questions"])
    questions = translation_questions(held_out_documents(data), most, str(data.options["pivot"]))
    if not questions:
        raise ValueError(f"{data.paths['test']} has too few documents of several paragraphs to ask about")
    return score_choices(predicts, questions, data)
