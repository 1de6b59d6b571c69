"""Scores of classifiers. Legend: N pictures, C classes, K best classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassScores:
    """correct_N: whether the likeliest class is right; correct5_N: whether one of the five likeliest is.

    mean_per_class_recall: of the classes that occur, as CLIP_benchmark has it (balanced accuracy).
    confusion_CC: pictures of class i (row) that were taken for class j.
    top_NK: up to five likeliest classes of each picture, likeliest first.
    """

    correct_N: Tensor
    correct5_N: Tensor
    mean_per_class_recall: float
    confusion_CC: Tensor
    top_NK: Tensor

    def metrics(self, before: str = "") -> dict[str, float]:
        """accuracy@1, accuracy@5 where there are more than five classes, and mean_per_class_recall."""
        found = {f"{before}accuracy@1": self.correct_N.double().mean().item()}
        if len(self.confusion_CC) > 5:
            found[f"{before}accuracy@5"] = self.correct5_N.double().mean().item()
        return {**found, f"{before}mean_per_class_recall": self.mean_per_class_recall}


def class_scores(logits_NC: Tensor, labels_N: Tensor) -> ClassScores:
    """Raises ValueError where there is no picture."""
    if not len(labels_N):
        raise ValueError("there is no picture to score")
    classes = logits_NC.shape[1]
    top_NK = logits_NC.topk(min(5, classes), dim=1).indices
    confusion_CC = torch.zeros(classes, classes, dtype=torch.int64)
    confusion_CC.index_put_((labels_N, top_NK[:, 0]), torch.ones_like(labels_N), accumulate=True)
    counts_C = confusion_CC.sum(dim=1)
    recall_C = confusion_CC.diagonal().double() / counts_C
    return ClassScores(
        correct_N=top_NK[:, 0] == labels_N,
        correct5_N=(top_NK == labels_N[:, None]).any(dim=1),
        mean_per_class_recall=recall_C[counts_C > 0].mean().item(),
        confusion_CC=confusion_CC,
        top_NK=top_NK,
    )


def baselines(labels_N: Tensor, classes: int) -> dict[str, float]:
    """What guessing gives, and always saying the class that is the commonest in the test."""
    return {
        "chance/accuracy@1": 1.0 / classes,
        "commonest/accuracy@1": labels_N.bincount(minlength=classes).max().item() / len(labels_N),
    }


def confusion_csv(confusion_CC: Tensor, classes: Sequence[str]) -> str:
    """A row a true class, a column a predicted one, with a header of names."""
    quoted = ['"' + name.replace('"', '""') + '"' for name in classes]
    rows = [",".join([name, *map(str, counts)]) for name, counts in zip(quoted, confusion_CC.tolist(), strict=True)]
    return "\n".join([",".join(['"is, taken for"', *quoted]), *rows]) + "\n"
