"""Truth: each expert's sorted list of scores (arXiv 2202.09368, section 3), and an example worked by hand.

google-research/vmoe (NoisyTopItemsPerExpertRouter without noise) reads the same: softmax over experts, the C largest of
every expert's column, that softmax as the weight. Its C is rounded up to a multiple of 4 by default, ours is not.
"""

import math

import pytest
import torch

from mm_mhmoe.nn import ExpertChoiceRouter, Experts, MoE, MultiHeadMoE, Rows, expert_counts


@pytest.mark.parametrize("average_k", [1, 2, 1.5, 5])
def test_every_expert_takes_its_best(average_k):
    torch.manual_seed(0)
    router, x = ExpertChoiceRouter(16, 5, average_k), torch.randn(33, 16)
    valid = torch.rand(33) < 0.8
    routing = router(x, valid)
    prob = (x @ router.gate.weight.t()).softmax(1)
    real = [s for s in range(33) if valid[s]]
    taken = math.ceil(average_k * len(real) / 5)
    for e in range(5):
        best = set(sorted(real, key=lambda s: -prob[s, e].item())[:taken])
        assert {s for s in range(33) if routing.sent_SK[s, e]} == best
    torch.testing.assert_close(routing.weights_SK, prob.masked_fill(~valid[:, None], 0.2))
    assert expert_counts(routing).tolist() == [taken] * 5


def test_worked_example():
    """Five tokens, three experts, C = ceil(1.2 * 5 / 3) = 2. The gate is the identity, so softmax(log p) = p.

    Column 0 is largest in rows 0 and 3, column 1 in rows 0 and 2, column 2 in rows 1 and 2. So two experts take token 0
    and two token 2, and none takes token 4, which a top-1 router would send to expert 0. A softmax over tokens would
    give other weights.
    """
    prob = torch.tensor(
        [[0.50, 0.40, 0.10], [0.20, 0.20, 0.60], [0.35, 0.34, 0.31], [0.45, 0.25, 0.30], [0.40, 0.32, 0.28]]
    )
    router = ExpertChoiceRouter(3, 3, average_k=1.2)
    with torch.no_grad():
        router.gate.weight.copy_(torch.eye(3))
    routing = router(prob.log())
    weight = routing.weights_SK * routing.sent_SK
    wanted = [[0.50, 0.40, 0.0], [0.0, 0.0, 0.60], [0.0, 0.34, 0.31], [0.45, 0.0, 0.0], [0.0, 0.0, 0.0]]
    torch.testing.assert_close(weight, torch.tensor(wanted))


def test_through_experts_and_under_multi_head():
    torch.manual_seed(0)
    moe = MoE(ExpertChoiceRouter(4, 3, 1.0), Experts(3, 4, 8))
    x = torch.randn(10, 4)
    y, routing = moe(x)
    first = torch.zeros(1, dtype=torch.int64)
    for s in range(10):
        wanted = sum(
            (
                routing.weights_SK[s, e]
                * moe.experts(x[s : s + 1], Rows([int(i == e) for i in range(3)], *[first] * 3))[0]
            )
            for e in range(3)
            if routing.sent_SK[s, e]
        )
        torch.testing.assert_close(y[s], wanted if isinstance(wanted, torch.Tensor) else torch.zeros(4))
    out, inner = MultiHeadMoE(8, 2, moe)(torch.randn(10, 8))
    assert out.shape == (10, 8) and expert_counts(inner).tolist() == [7, 7, 7]  # ceil(20 sub-tokens / 3)


def test_more_experts_than_there_are_is_refused():
    with pytest.raises(ValueError, match=r"average_k=6.*num_experts=5"):
        ExpertChoiceRouter(16, 5, 6)
