"""Truth: sums written out, and the bounds that the docstring states."""

import math

import pytest
import torch

from mm_mhmoe.analysis.group_information import choices_by_group, information


def test_choices_are_counted_by_group():
    group, first = torch.tensor([0, 2, 0]), torch.tensor([[1, 1], [3, 0], [2, 1]])
    found = choices_by_group(group, first, 3, 4)
    wanted = torch.zeros(3, 4, dtype=torch.long)
    for g, choices in zip(group.tolist(), first.tolist(), strict=True):
        for expert in choices:
            wanted[g, expert] += 1
    assert torch.equal(found, wanted)


def test_alike_groups_tell_nothing_and_apart_ones_all():
    assert information(torch.tensor([[10, 20, 30], [1, 2, 3], [0, 0, 0]])) == pytest.approx(0, abs=1e-12)
    assert information(torch.tensor([[7, 0, 0, 0], [0, 100, 0, 0], [0, 0, 1, 0], [0, 0, 0, 3]])) == pytest.approx(2)


def test_the_jensen_shannon_divergence_written_out():
    p, q = (0.5, 0.3, 0.2), (0.1, 0.1, 0.8)
    m = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    wanted = sum(a * math.log2(a / c) / 2 + b * math.log2(b / c) / 2 for a, b, c in zip(p, q, m, strict=True))
    counts = torch.tensor([[5000, 3000, 2000], [10, 10, 80]])
    assert information(counts) == pytest.approx(wanted)
