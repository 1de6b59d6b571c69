"""What the scores say, worked out from the scores: differences, how sure they are, and sentences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mm_mhmoe_eval.report.numbers import deviation, mean, paired_error, percent, points, times
from mm_mhmoe_eval.report_data import ReportData, Role, ScoreRow

RECALL = "image_retrieval_recall@10"
VQA = "vqa"

RULE = (
    "A difference counts as clear when it is more than twice its standard error. The error is the larger "
    "of two: the spread of the difference over the seeds, and the sampling error of the test, from the "
    "differences on the same queries (taken as independent)."
)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The main model against another row, on one metric; fractions.

    error: standard error of the difference; None when neither seeds nor the size of the test are known.
    """

    metric: str
    against: ScoreRow
    main: float
    other: float
    error: float | None

    @property
    def difference(self) -> float:
        return self.main - self.other

    @property
    def outcome(self) -> Literal["better", "worse", "unclear"]:
        if self.error is None or abs(self.difference) <= 2 * self.error:
            return "unclear"
        return "better" if self.difference > 0 else "worse"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A comparison in words. head: a few words; text: the numbers."""

    head: str
    text: str
    outcome: Literal["better", "worse", "unclear"]


def compare(data: ReportData, role: Role, metric: str) -> Comparison | None:
    """Main against the row of a role; None when one of them lacks the metric."""
    main, other = data.row("main"), data.row(role)
    if main is None or other is None or not main.scores.get(metric) or not other.scores.get(metric):
        return None
    ours, theirs = main.scores[metric], other.scores[metric]
    errors = []
    if len(ours) == len(theirs) > 1:
        errors.append(paired_error(ours, theirs) or 0.0)
    elif len(ours) > 1:
        errors.append((deviation(ours) or 0.0) / math.sqrt(len(ours)))
    samples = data.questions if metric.startswith(VQA) else data.captions or data.test_pairs
    paired = paired_error(main.per_sample.get(metric, []), other.per_sample.get(metric, []))
    if paired is not None:
        errors.append(paired)
    elif samples:
        # Chance is known exactly, so only the model's own score has a sampling error then.
        shares = [mean(ours)] + ([] if role == "chance" else [mean(theirs)])
        errors.append(math.sqrt(sum(max(0.0, p * (1 - p)) for p in shares) / samples))
    return Comparison(
        metric=metric,
        against=other,
        main=mean(ours),
        other=mean(theirs),
        error=max(errors) if errors else None,
    )


_SUBJECTS: tuple[tuple[Role, str, dict[str, str]], ...] = (
    ("no_pretraining", "Masked pretraining", {"better": "helps", "worse": "hurts"}),
    ("dense", "MH-MoE instead of a dense FFN of equal FLOPs", {"better": "helps", "worse": "hurts"}),
    ("untrained", "Training", {"better": "helps", "worse": "hurts"}),
    ("chance", "Finding pictures", {"better": "is above chance", "worse": "is below chance"}),
    (
        "question_only",
        "Looking at the picture",
        {"better": "helps", "worse": "does worse than answering blind"},
    ),
)


def verdicts(data: ReportData) -> list[Verdict]:
    """One for each control and metric that the data holds."""
    found = []
    for role, subject, words in _SUBJECTS:
        for metric, name in ((RECALL, "recall@10"), (VQA, "VQA")):
            comparison = compare(data, role, metric)
            if comparison is not None:
                found.append(_verdict(comparison, subject, name, words))
    return found


def _verdict(comparison: Comparison, subject: str, name: str, words: dict[str, str]) -> Verdict:
    outcome = comparison.outcome
    before_after = f"{percent(comparison.other)} \u2192 {percent(comparison.main)}"
    change = f"{points(comparison.difference)} points ({before_after})"
    if comparison.against.role == "chance" and comparison.other > 0:
        change += f", {times(comparison.main / comparison.other)} chance"
    if outcome != "unclear":
        return Verdict(head=f"{subject} {words[outcome]} on {name}", text=change, outcome=outcome)
    margin = "" if comparison.error is None else f", within \u00b1{100 * 2 * comparison.error:.1f}"
    return Verdict(head=f"{subject}: no clear difference on {name}", text=change + margin, outcome=outcome)
