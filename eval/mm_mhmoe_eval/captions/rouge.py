"""ROUGE-L of captions (Lin 2004), as COCO's scorer computes it."""

from __future__ import annotations

from collections.abc import Sequence

_BETA = 1.2

Words = Sequence[str]


def rouge_l(caption: Words, references: Sequence[Words]) -> float:
    """F-measure of the longest common subsequence: the best precision and the best recall over all references."""
    common = [(_longest_common(caption, reference), len(reference)) for reference in references]
    precision = max(shared for shared, _ in common) / max(1, len(caption))
    recall = max(shared / max(1, length) for shared, length in common)
    if not precision or not recall:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _longest_common(first: Words, second: Words) -> int:
    row = [0] * (len(second) + 1)
    for word in first:
        before = row
        row = [0]
        for place, other in enumerate(second):
            row.append(before[place] + 1 if word == other else max(before[place + 1], row[place]))
    return row[-1]
