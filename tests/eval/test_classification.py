"""Truth: torchmetrics' accuracies and confusion matrix, which CLIP_benchmark's names are."""

from __future__ import annotations

import csv

import pytest
import torch
from mm_mhmoe_eval.classification import baselines, class_scores, confusion_csv
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_confusion_matrix


@pytest.mark.parametrize("classes", [3, 9])
def test_scores_are_torchmetrics(classes: int) -> None:
    generator = torch.Generator().manual_seed(classes)
    labels_N = torch.randint(0, classes - 1, (50,), generator=generator)  # the last class does not occur
    logits_NC = torch.randn(50, classes, generator=generator) + torch.nn.functional.one_hot(labels_N, classes)
    scores = class_scores(logits_NC, labels_N)
    found = scores.metrics()
    assert found["accuracy@1"] == pytest.approx(multiclass_accuracy(logits_NC, labels_N, classes, average="micro"))
    assert ("accuracy@5" in found) == (classes > 5)
    if classes > 5:
        top5 = multiclass_accuracy(logits_NC, labels_N, classes, average="micro", top_k=5)
        assert found["accuracy@5"] == pytest.approx(top5)
    # torchmetrics leaves out classes that neither occur nor are predicted; ours those that do not occur.
    each_C = multiclass_accuracy(logits_NC, labels_N, classes, average=None)[: classes - 1]
    assert found["mean_per_class_recall"] == pytest.approx(each_C.mean())
    assert torch.equal(scores.confusion_CC, multiclass_confusion_matrix(logits_NC, labels_N, classes))


def test_baselines_and_the_table() -> None:
    assert baselines(torch.tensor([0, 1, 1, 1]), 4) == {"chance/accuracy@1": 0.25, "commonest/accuracy@1": 0.75}
    scores = class_scores(torch.tensor([[2.0, 1.0], [2.0, 1.0], [0.0, 1.0]]), torch.tensor([0, 1, 1]))
    rows = list(csv.reader(confusion_csv(scores.confusion_CC, ['cat, "big"', "dog"]).splitlines()))
    assert rows == [["is, taken for", 'cat, "big"', "dog"], ['cat, "big"', "1", "0"], ["dog", "1", "1"]]
    with pytest.raises(ValueError, match="no picture"):
        class_scores(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
