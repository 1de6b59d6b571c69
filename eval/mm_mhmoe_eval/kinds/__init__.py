"""Kinds of tasks, by the name that a task's YAML gives: each a file with `score(model, data)`."""

from mm_mhmoe_eval.kinds import captioning, classification, masked, nlvr2, probe, retrieval, vqa
from mm_mhmoe_eval.kinds.scored import Kind, Scored, ScoredData

_QUESTIONS = ("test", "test_questions", "test_annotations")
_CLASSES = ("label_field", "min_class_count")

KINDS: dict[str, Kind] = {
    "retrieval": Kind(score=retrieval.score),
    "vqa": Kind(score=vqa.score, needs=_QUESTIONS, together=_QUESTIONS),
    "masked": Kind(score=masked.score),
    "nlvr2": Kind(score=nlvr2.score),
    "classification": Kind(score=classification.score, options=("label_field",)),
    "captioning": Kind(score=captioning.score),
    "zero_shot": Kind(score=classification.score_zero_shot, options=_CLASSES),
    "probe": Kind(score=probe.score, needs=("test", "train"), options=_CLASSES),
}

__all__ = ["KINDS", "Kind", "Scored", "ScoredData"]
