"""Truth: the losses' definitions as numpy loops; 1 at perfect balance (Switch Transformer, section 2.2)."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_mhmoe.nn import Routing, expert_load, load_balance_loss, router_z_loss


def make(tokens=30, num_experts=5, top_k=2, padding=False, seed=0):
    g = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(tokens, num_experts, generator=g)
    prob = logits.softmax(1)
    weights, experts = prob.topk(top_k, dim=1)
    valid = torch.rand(tokens, generator=g) > 0.4 if padding else None
    return Routing(logits, prob, experts, weights, valid)


def by_hand(routing):
    rows = [s for s in range(len(routing.prob_SE)) if routing.valid_S is None or routing.valid_S[s]]
    num_experts = routing.prob_SE.shape[1]
    if not rows:
        return 0.0, 0.0, np.zeros(num_experts)
    count, prob, z = np.zeros(num_experts), np.zeros(num_experts), 0.0
    for s in rows:
        prob += routing.prob_SE[s].double().numpy()
        z += np.log(np.exp(routing.logits_SE[s].double().numpy()).sum()) ** 2
        for e in routing.experts_SK[s].tolist():
            count[e] += 1
    load = count / count.sum()
    return num_experts * (load * prob / len(rows)).sum(), z / len(rows), load


@given(
    tokens=st.integers(0, 20),
    num_experts=st.integers(1, 6),
    top_k=st.integers(1, 6),
    padding=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_against_loops(tokens, num_experts, top_k, padding, seed):
    routing = make(tokens, num_experts, min(top_k, num_experts), padding, seed)
    balance, z, load = by_hand(routing)
    np.testing.assert_allclose(load_balance_loss(routing).item(), balance, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(router_z_loss(routing).item(), z, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(expert_load(routing).numpy(), load, rtol=1e-6)


@pytest.mark.parametrize("first_choice", [False, True])
def test_ranks_that_share_their_sums_get_the_loss_of_all_rows_on_average(first_choice):
    """Three ranks with unequal rows and padding, one with padding alone; also their gradients."""
    whole = make(tokens=40, padding=True)
    whole.valid_S[30:] = False
    prob_SE = whole.prob_SE.clone().requires_grad_()

    def part(rows):
        return Routing(
            whole.logits_SE[rows], prob_SE[rows], whole.experts_SK[rows], whole.weights_SK[rows], whole.valid_S[rows]
        )

    parts = [part(slice(0, 12)), part(slice(12, 30)), part(slice(30, 40))]
    sums = []

    def give(value):
        sums.append(value)
        return value

    for one in parts:
        load_balance_loss(one, first_choice=first_choice, all_reduce=give)
    total = torch.stack(sums).sum(dim=0)
    losses = [load_balance_loss(one, first_choice=first_choice, all_reduce=lambda _: total) for one in parts]
    mean = torch.stack(losses).mean()
    wanted = load_balance_loss(part(slice(0, 40)), first_choice=first_choice)
    torch.testing.assert_close(mean, wanted)
    torch.testing.assert_close(torch.autograd.grad(mean, prob_SE), torch.autograd.grad(wanted, prob_SE))
    assert abs(sum(load_balance_loss(one, first_choice=first_choice) for one in parts) / 3 - wanted) > 1e-2


def test_first_choices_alone_may_count():
    """Both rows choose expert 0 first and another one second: f = (1, 0, 0), so E f P = 3 * mean P_0."""
    prob = torch.tensor([[0.5, 0.3, 0.2], [0.6, 0.1, 0.3]])
    routing = Routing(prob.log(), prob, torch.tensor([[0, 1], [0, 2]]), torch.full((2, 2), 0.5))
    assert load_balance_loss(routing, first_choice=True).item() == pytest.approx(3 * 0.55)
    assert load_balance_loss(routing).item() == pytest.approx(3 * (0.5 * 0.55 + 0.25 * 0.2 + 0.25 * 0.25))


def test_one_at_perfect_balance_and_e_at_collapse():
    """f_e = P_e = 1/E gives E * E / E^2 = 1; everything on one expert with probability 1 gives E."""
    even = torch.eye(4).repeat(3, 1)
    experts = even.argmax(1, keepdim=True)
    assert load_balance_loss(Routing(even, even, experts, torch.ones(12, 1))).item() == pytest.approx(1.0)
    one = torch.eye(4)[:1].repeat(12, 1)
    collapsed = Routing(one, one, torch.zeros_like(experts), torch.ones(12, 1))
    assert load_balance_loss(collapsed).item() == pytest.approx(4.0)


@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
def test_padding_is_blind_in_values_and_gradients(poison):
    clean = make(padding=True)
    valid = clean.valid_S
    dirty = Routing(
        torch.where(valid[:, None], clean.logits_SE, poison).requires_grad_(),
        torch.where(valid[:, None], clean.prob_SE, poison).requires_grad_(),
        torch.where(valid[:, None], clean.experts_SK, 0),
        clean.weights_SK,
        valid,
    )
    for function in (load_balance_loss, router_z_loss, expert_load):
        torch.testing.assert_close(function(dirty).detach(), function(clean))
    (load_balance_loss(dirty) + router_z_loss(dirty)).backward()
    for grad in (dirty.logits_SE.grad, dirty.prob_SE.grad):
        assert grad[valid].abs().min() >= 0 and grad.isfinite().all() and not grad[~valid].any()


def test_nothing_valid_is_zero_not_nan():
    routing = make()
    empty = Routing(
        routing.logits_SE,
        routing.prob_SE,
        routing.experts_SK,
        routing.weights_SK,
        torch.zeros(30, dtype=torch.bool),
    )
    assert load_balance_loss(empty).item() == router_z_loss(empty).item() == 0.0
    assert not expert_load(empty).any()


def test_fp32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        results = [f(make()) for f in (load_balance_loss, router_z_loss, expert_load)]
    assert all(r.dtype == torch.float32 for r in results)
    assert results[0].item() == load_balance_loss(make()).item()


def test_the_balance_loss_pushes_the_router_towards_idle_experts():
    """Its gradient is E f_e / S per probability: larger for the busier expert."""
    prob = torch.tensor([[0.9, 0.1]]).repeat(8, 1).requires_grad_()
    load_balance_loss(Routing(prob, prob, torch.zeros(8, 1, dtype=torch.int64), torch.ones(8, 1))).backward()
    torch.testing.assert_close(prob.grad, torch.tensor([[0.25, 0.0]]).repeat(8, 1))
