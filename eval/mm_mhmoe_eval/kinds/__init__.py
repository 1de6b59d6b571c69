"""Kinds of tasks, by the name that a task's YAML gives: each a file with `score(model, data)`."""

from mm_mhmoe_eval.kinds import masked, nlvr2, retrieval, vqa
from mm_mhmoe_eval.kinds.scored import Kind, Scored, ScoredData
from mm_mhmoe_eval.protocol import AnswersQuestions, EmbedsPairs, JudgesStatements, PredictsHidden

_QUESTIONS = ("test", "test_questions", "test_annotations")

KINDS: dict[str, Kind] = {
    "retrieval": Kind(score=retrieval.score, protocol=EmbedsPairs),
    "vqa": Kind(score=vqa.score, needs=_QUESTIONS, together=_QUESTIONS, protocol=AnswersQuestions),
    "masked": Kind(score=masked.score, protocol=PredictsHidden),
    "nlvr2": Kind(score=nlvr2.score, protocol=JudgesStatements),
}

__all__ = ["KINDS", "Kind", "Scored", "ScoredData"]
