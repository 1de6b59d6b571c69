"""Kinds of tasks, by the name that a task's YAML gives: each a file with `score(model, data)`."""

from mm_mhmoe_eval.kinds import classification, masked, multilingual, nlvr2, open_vqa, probe, retrieval, vqa
from mm_mhmoe_eval.kinds.scored import Kind, Scored, ScoredData
from mm_mhmoe_eval.protocol import (
    AnswersQuestions,
    Classifies,
    ContinuesTexts,
    EmbedsPairs,
    GivesFeatures,
    JudgesStatements,
    PredictsHidden,
)

_ASKED = ("test", "test_questions")
_QUESTIONS = (*_ASKED, "test_annotations")
_CLASSES = {"label_field": "", "min_class_count": 1}

KINDS: dict[str, Kind] = {
    "retrieval": Kind(score=retrieval.score, options={"rerank": 0}, protocol=EmbedsPairs),
    "multilingual_retrieval": Kind(score=multilingual.score, protocol=EmbedsPairs),
    "vqa": Kind(score=vqa.score, needs=_ASKED, together=_QUESTIONS, protocol=AnswersQuestions),
    "open_vqa": Kind(
        score=open_vqa.score,
        needs=_ASKED,
        together=_QUESTIONS,
        options=open_vqa.OPTIONS,
        protocol=ContinuesTexts,
    ),
    "masked": Kind(score=masked.score, protocol=PredictsHidden),
    "nlvr2": Kind(score=nlvr2.score, protocol=JudgesStatements),
    "classification": Kind(score=classification.score, options={"label_field": ""}, protocol=Classifies),
    "zero_shot": Kind(score=classification.score_zero_shot, options=_CLASSES, protocol=EmbedsPairs),
    "probe": Kind(score=probe.score, needs=("test", "train"), options=_CLASSES, protocol=GivesFeatures),
}

__all__ = ["KINDS", "Kind", "Scored", "ScoredData"]
