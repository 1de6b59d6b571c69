from __future__ import annotations

import itertools
import math

import pytest
import torch
from mm_mhmoe_eval.comparison import holm, paired_test


def test_p_is_that_of_all_rearrangements() -> None:
    """Truth: every choice of signs, one by one."""
    generator = torch.Generator().manual_seed(3)
    ours, theirs = torch.rand(2, 11, generator=generator, dtype=torch.float64)
    ours = ours + 0.15
    differences = (ours - theirs).tolist()
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((-1, 1), repeat=11)
    ]
    exact = sum(value >= abs(sum(differences)) - 1e-12 for value in sums) / len(sums)
    assert paired_test(ours.tolist(), theirs.tolist(), draws=40_000).p == pytest.approx(exact, abs=0.01)


def test_of_right_and_wrong_answers_it_is_the_exact_mcnemar_test() -> None:
    """Truth: the binomial distribution of which model is right where they disagree; 14 against 4 here."""
    ours = [1.0] * 14 + [0.0] * 4 + [1.0] * 60 + [0.0] * 22
    theirs = [0.0] * 14 + [1.0] * 4 + [1.0] * 60 + [0.0] * 22
    exact = 2 * sum(math.comb(18, k) for k in range(14, 19)) / 2**18
    tested = paired_test(ours, theirs, draws=40_000)
    assert tested.p == pytest.approx(exact, abs=0.004)
    assert tested.difference == pytest.approx(0.10)
    assert 0 < tested.low < 0.10 < tested.high < 0.20


def test_equal_models_are_told_apart_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    trials = [torch.rand(2, 40, generator=generator).tolist() for _ in range(200)]
    below = sum(paired_test(*pair, draws=400).p < 0.05 for pair in trials)
    assert 2 <= below <= 20  # 10 expected; these bounds hold in 99.7% of such trials


def test_the_same_scores_never_differ() -> None:
    assert paired_test([0.3, 0.5, 1.0], [0.3, 0.5, 1.0]).p == 1.0


def test_scores_of_other_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="same samples"):
        paired_test([1.0, 0.0], [1.0])


def test_holm() -> None:
    """Truth: R, p.adjust(c(.04, .01, .03, .02), "holm"), and c(.01, .5, .6)."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.01, 0.5, 0.6]) == pytest.approx([0.03, 1.0, 1.0])
