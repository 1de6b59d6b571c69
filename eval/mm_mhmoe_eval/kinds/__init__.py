"""Kinds of tasks, by the name that a task's YAML gives: each a file with `score(model, data)`."""

from mm_mhmoe_eval.kinds import (
    captioning,
    classification,
    masked,
    multilingual,
    next_paragraph,
    nlvr2,
    open_vqa,
    perplexity,
    probe,
    retrieval,
    translation,
    vqa,
)
from mm_mhmoe_eval.kinds.scored import Kind, Scored, ScoredData
from mm_mhmoe_eval.protocol import (
    AnswersQuestions,
    Captions,
    Classifies,
    ContinuesTexts,
    EmbedsPairs,
    GivesFeatures,
    JudgesStatements,
    PredictsHidden,
    PredictsTokens,
)

_ASKED = ("test", "test_questions")
_QUESTIONS = (*_ASKED, "test_annotations")
_CLASSES = {"label_field": "", "min_class_count": 1}
_ASKED_OF_TEXTS = {"languages": "", "questions": 800}

KINDS: dict[str, Kind] = {
    "retrieval": Kind(score=retrieval.score, protocol=EmbedsPairs, options={"rerank": 0}),
    "multilingual_retrieval": Kind(score=multilingual.score, protocol=EmbedsPairs),
    "vqa": Kind(score=vqa.score, protocol=AnswersQuestions, needs=_ASKED, together=_QUESTIONS),
    "open_vqa": Kind(
        score=open_vqa.score, protocol=ContinuesTexts, needs=_ASKED, together=_QUESTIONS, options=open_vqa.OPTIONS
    ),
    "masked": Kind(score=masked.score, protocol=PredictsHidden),
    "nlvr2": Kind(score=nlvr2.score, protocol=JudgesStatements),
    "classification": Kind(score=classification.score, protocol=Classifies, options={"label_field": ""}),
    "captioning": Kind(score=captioning.score, protocol=Captions),
    "zero_shot": Kind(score=classification.score_zero_shot, protocol=EmbedsPairs, options=_CLASSES),
    "probe": Kind(score=probe.score, protocol=GivesFeatures, needs=("test", "train"), options=_CLASSES),
    "perplexity": Kind(score=perplexity.score, protocol=PredictsTokens, options={"languages": ""}),
    "next_paragraph": Kind(score=next_paragraph.score, protocol=PredictsTokens, options=_ASKED_OF_TEXTS),
    "translation": Kind(
        score=translation.score, protocol=PredictsTokens, options={**_ASKED_OF_TEXTS, "pivot": "en-US"}
    ),
}

__all__ = ["KINDS", "Kind", "Scored", "ScoredData"]
