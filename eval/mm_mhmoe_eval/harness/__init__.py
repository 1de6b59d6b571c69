"""Tasks of EleutherAI's lm-eval (lm-evaluation-harness), asked of this project's language models."""

from mm_mhmoe_eval.harness.records import PREFIX
from mm_mhmoe_eval.harness.run import evaluate_lm_eval

__all__ = ["PREFIX", "evaluate_lm_eval"]
