"""Scores of captions: pure Python, and COCO's own programs where they are there."""

from mm_mhmoe_eval.captions.scores import CaptionScores, score_captions

__all__ = ["CaptionScores", "score_captions"]
