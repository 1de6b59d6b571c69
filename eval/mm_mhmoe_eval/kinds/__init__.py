"""Kinds of tasks, by the name that a task's YAML gives: each a file with `score(model, data)`."""

from mm_mhmoe_eval.kinds import masked, next_paragraph, nlvr2, perplexity, retrieval, translation, vqa
from mm_mhmoe_eval.kinds.scored import Kind, Scored, ScoredData

_QUESTIONS = ("test", "test_questions", "test_annotations")

KINDS: dict[str, Kind] = {
    "retrieval": Kind(score=retrieval.score),
    "vqa": Kind(score=vqa.score, needs=_QUESTIONS, together=_QUESTIONS),
    "masked": Kind(score=masked.score),
    "nlvr2": Kind(score=nlvr2.score),
    "perplexity": Kind(score=perplexity.score),
    "next_paragraph": Kind(score=next_paragraph.score),
    "translation": Kind(score=translation.score),
}

__all__ = ["KINDS", "Kind", "Scored", "ScoredData"]
