"""Truth: scikit-learn's logistic regression (tests/golden/make_sklearn_logistic.py); nearest neighbours by a loop."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from mm_mhmoe_eval.probes import fit_linear, linear_probe, nearest_neighbours

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "sklearn_logistic.json").read_text())
FEATURES_NF = torch.tensor(GOLDEN["features"])
LABELS_N = torch.tensor(GOLDEN["labels"])


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: f"{case['l2']}")
def test_the_linear_classifier_is_scikit_learns(case) -> None:
    fitted = fit_linear(FEATURES_NF[:250], LABELS_N[:250], 10, l2=case["l2"])
    found = fitted(FEATURES_NF[250:]).softmax(dim=1)
    torch.testing.assert_close(found, torch.tensor(case["probabilities"]), rtol=1e-3, atol=1e-4)
    entropy = torch.nn.functional.cross_entropy(fitted(FEATURES_NF[:250]), LABELS_N[:250])
    assert entropy + case["l2"] / 2 * fitted.weight_CF.square().sum() == pytest.approx(case["loss"], rel=1e-5)


def test_the_probe_reads_digits_and_is_blind_to_scale() -> None:
    scale_F = torch.logspace(-3, 3, FEATURES_NF.shape[1])
    probe = linear_probe(FEATURES_NF[:250], LABELS_N[:250], FEATURES_NF[250:], 10)
    scaled = linear_probe(FEATURES_NF[:250] * scale_F, LABELS_N[:250], FEATURES_NF[250:] * scale_F, 10)
    assert (probe.logits_MC.argmax(dim=1) == LABELS_N[250:]).double().mean() > 0.7  # chance is .1
    assert scaled.l2 == probe.l2
    assert torch.equal(scaled.logits_MC.argmax(dim=1), probe.logits_MC.argmax(dim=1))


def test_neighbours_vote_as_in_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    train_NF, test_MF = torch.randn(40, 6, generator=generator), torch.randn(7, 6, generator=generator)
    labels_N = torch.randint(0, 4, (40,), generator=generator)
    found_MC = nearest_neighbours(train_NF, labels_N, test_MF, 4, neighbours=5, temperature=0.1, rows=3)
    for m, test_F in enumerate(test_MF):
        cosines = [
            (float(torch.nn.functional.cosine_similarity(test_F, row, dim=0)), n) for n, row in enumerate(train_NF)
        ]
        votes = [0.0] * 4
        for cosine, n in sorted(cosines, reverse=True)[:5]:
            votes[int(labels_N[n])] += math.exp(cosine / 0.1)
        expected_C = torch.tensor(votes) / sum(votes)
        torch.testing.assert_close(found_MC[m] / found_MC[m].sum(), expected_C, rtol=1e-4, atol=1e-6)
