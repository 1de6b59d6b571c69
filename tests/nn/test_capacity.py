"""Truth: a queue before every expert, in loops; golden masks of torchscale 0.3.0's top2gating.

The golden values were made by tests/golden/make_torchscale_gates.py.
"""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from mm_mhmoe.nn import Capacity, Experts, MoE, Rows, TopKRouter, expert_counts, load_balance_loss
from mm_mhmoe.nn.routing import Routing

GOLDEN = Path(__file__).parents[1] / "golden" / "torchscale_gates.safetensors"


def by_hand(routing: Routing, factor: float, policy: str) -> list[list[bool]]:
    tokens, top_k = routing.experts_SK.shape
    real = [s for s in range(tokens) if routing.valid_S is None or routing.valid_S[s]]
    room = math.ceil(factor * top_k * len(real) / routing.num_experts)
    line = real if policy == "position" else sorted(real, key=lambda s: -routing.prob_SE[s].max().item())
    used = [0] * routing.num_experts
    sent = [[False] * top_k for _ in range(tokens)]
    for k in range(top_k):
        for s in line:
            e = int(routing.experts_SK[s, k])
            sent[s][k] = used[e] < room
            used[e] += 1
    return sent


@given(
    tokens=st.integers(0, 40),
    top_k=st.integers(1, 3),
    factor=st.sampled_from([0.3, 1.0, 1.25, 100.0]),
    policy=st.sampled_from(["position", "priority"]),
    padded=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=80, deadline=None)
def test_against_queues(tokens, top_k, factor, policy, padded, seed):
    torch.manual_seed(seed)
    valid = torch.rand(tokens) < 0.7 if padded else None
    routing = TopKRouter(8, 5, top_k)(torch.randn(tokens, 8), valid)
    limited = Capacity(factor=factor, policy=policy)(routing)
    real = torch.ones(tokens, dtype=torch.bool) if valid is None else valid
    wanted = torch.tensor(by_hand(routing, factor, policy), dtype=torch.bool).view(tokens, top_k)
    assert torch.equal(limited.sent_SK[real], wanted[real])
    assert expert_counts(limited).max() <= Capacity(factor=factor).room(routing)
    torch.testing.assert_close(load_balance_loss(limited), load_balance_loss(routing))


def test_dropped_choices_add_nothing():
    torch.manual_seed(0)
    moe = MoE(TopKRouter(8, 4, 2), Experts(4, 8, 16), capacity=Capacity(factor=0.5))
    x = torch.randn(20, 8)
    y, routing = moe(x)
    assert not routing.sent_SK.all()
    first = torch.zeros(1, dtype=torch.int64)
    for s in range(20):
        wanted = torch.zeros(8)
        for k in range(2):
            if routing.sent_SK[s, k]:
                counts = [int(e == routing.experts_SK[s, k]) for e in range(4)]
                wanted = wanted + routing.weights_SK[s, k] * moe.experts(x[s : s + 1], Rows(counts, *[first] * 3))[0]
        torch.testing.assert_close(y[s], wanted)


@pytest.mark.parametrize("policy", ["position", "priority"])
def test_top_2_equals_torchscale(policy):
    """Its capacity is 2 ceil(S / E): with E a divisor of S, factor 1 here."""
    golden = load_file(GOLDEN)
    router = TopKRouter(12, 8, 2)
    with torch.no_grad():
        router.gate.weight.copy_(golden["top2.wg"])
    routing = Capacity(factor=1.0, policy=policy)(router(golden["x"]))
    weights = routing.weights_SK.masked_fill(~routing.sent_SK, 0.0)
    dense = torch.zeros(len(golden["x"]), 8).scatter_(1, routing.experts_SK, weights)
    torch.testing.assert_close(dense, golden[f"top2.{policy}.combine"])
    assert (dense == 0).sum(1).max() > 6  # something was dropped, or the comparison would say little
    torch.testing.assert_close(load_balance_loss(routing, first_choice=True), golden[f"top2.{policy}.l_aux"])


def test_a_capacity_that_drops_all_is_refused():
    with pytest.raises(ValueError, match="factor=0"):
        Capacity(factor=0)
    with pytest.raises(ValueError, match="policy='random'"):
        Capacity(factor=1, policy="random")
