"""Truth: a Python loop over every (sub-)token and each of its choices."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_mhmoe.nn import DroplessDispatcher, Routing, sort_rows, weighted_sum


def make(tokens, num_experts, top_k, *, padding=0.0, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    prob = torch.rand(tokens, num_experts, generator=g, dtype=dtype)
    weights, experts = prob.topk(top_k, dim=1)
    valid = torch.rand(tokens, generator=g) >= padding if padding else None
    return Routing(prob.log(), prob, experts, weights.detach().requires_grad_(), valid)


def by_hand(x, routing, expert):
    """sum_k weight * expert(x): the definition of a mixture."""
    out = []
    for s in range(len(x)):
        y = torch.zeros_like(x[s])
        if routing.valid_S is None or routing.valid_S[s]:
            for e, weight in zip(routing.experts_SK[s].tolist(), routing.weights_SK[s], strict=True):
                y = y + weight * expert(e, x[s])
        out.append(y)
    return torch.stack(out) if out else x.clone()


def scaled(e, rows):
    return rows * (e + 1.0) + e


def through(x, routing):
    dispatcher = DroplessDispatcher()
    here, plan = dispatcher.dispatch(x, routing)
    parts = here[plan.rows.source_N].split(plan.rows.counts)
    return dispatcher.combine(torch.cat([scaled(e, part) for e, part in enumerate(parts)]), plan)


@given(
    tokens=st.integers(0, 12),
    num_experts=st.sampled_from([1, 2, 5, 255, 256, 257]),
    top_k=st.integers(1, 4),
    padding=st.sampled_from([0.0, 0.4, 1.1]),
    seed=st.integers(0, 99),
)
@settings(max_examples=80, deadline=None)
def test_values_and_gradients(tokens, num_experts, top_k, padding, seed):
    """255 to 257 experts: the sort key changes its width there. Padding 1.1: nothing is real."""
    routing = make(tokens, num_experts, min(top_k, num_experts), padding=padding, seed=seed)
    x = torch.randn(tokens, 3, dtype=torch.float64, requires_grad=True)
    ours, true = through(x, routing), by_hand(x, routing, scaled)
    torch.testing.assert_close(ours, true)
    if tokens:
        pull = torch.randn_like(true)
        inputs = (x, routing.weights_SK)
        for a, b in zip(
            torch.autograd.grad(ours, inputs, pull, allow_unused=True, materialize_grads=True),
            torch.autograd.grad(true, inputs, pull, allow_unused=True, materialize_grads=True)
            if true.requires_grad
            else [torch.zeros_like(i) for i in inputs],
            strict=True,
        ):
            torch.testing.assert_close(a, b)


def test_rows_are_sorted_by_expert_and_hold_every_choice_once():
    routing = make(40, 5, 2, padding=0.3)
    x = torch.arange(40.0).unsqueeze(1)
    here, plan = DroplessDispatcher().dispatch(x, routing)
    parts = here[plan.rows.source_N].split(plan.rows.counts)
    got = [(e, int(row)) for e, part in enumerate(parts) for row in part[:, 0].tolist()]
    want = [(e, s) for s in range(40) if routing.valid_S[s] for e in routing.experts_SK[s].tolist()]
    assert got == sorted(want)


def test_padding_sends_nothing_and_gets_exactly_zero():
    routing = make(30, 4, 2, padding=0.5)
    x = torch.where(routing.valid_S[:, None], torch.randn(30, 3, dtype=torch.float64), torch.nan)
    here, plan = DroplessDispatcher().dispatch(x, routing)
    rows = here[plan.rows.source_N]
    assert len(rows) == sum(plan.rows.counts) == 2 * int(routing.valid_S.sum())
    assert rows.isfinite().all()
    y = DroplessDispatcher().combine(rows, plan)
    assert torch.equal(y[~routing.valid_S], torch.zeros(int((~routing.valid_S).sum()), 3, dtype=torch.float64))
    assert y[routing.valid_S].abs().min() > 0


def test_sums_are_made_in_fp32():
    """256 + 1 + 1 - 256 = 2; bf16 has eight significant bits, where 256 + 1 is 256 and the sum 0."""
    weights = torch.ones(1, 4)
    routing = Routing(torch.zeros(1, 4), torch.ones(1, 4) / 4, torch.arange(4).unsqueeze(0), weights)
    rows = torch.tensor([[256.0], [1.0], [1.0], [-256.0]], dtype=torch.bfloat16)
    dispatcher = DroplessDispatcher()
    _, plan = dispatcher.dispatch(torch.zeros(1, 1, dtype=torch.bfloat16), routing)
    y = dispatcher.combine(rows, plan)
    assert y.dtype == torch.bfloat16
    assert y.item() == 2.0


@given(seed=st.integers(0, 99), top_k=st.integers(1, 3), padding=st.sampled_from([0.0, 0.4, 1.1]))
@settings(max_examples=25, deadline=None)
def test_the_sum_of_rows_is_a_sum_over_tokens(seed, top_k, padding):
    routing = make(9, 4, top_k, padding=padding, seed=seed)
    rows, weights = sort_rows(routing)
    y = torch.randn(len(rows.source_N), 3, dtype=torch.float64)
    want, weighted = torch.zeros(9, 3, dtype=torch.float64), torch.zeros(9, 3, dtype=torch.float64)
    for n, s in enumerate(rows.source_N.tolist()):
        want[s] += y[n]
    for n, weight in zip(rows.row_N.tolist(), weights.detach(), strict=True):
        weighted[rows.source_N[n]] += weight * y[n]
    torch.testing.assert_close(rows.sum(y), want)
    torch.testing.assert_close(rows.sum(y, weights.detach()), weighted)


def test_gradients_of_the_weighted_sum_are_the_numerical_ones():
    rows, weights = sort_rows(make(7, 3, 2, padding=0.3))
    y = torch.randn(len(rows.source_N), 3, dtype=torch.float64, requires_grad=True)
    weights = weights.detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda y, weights: weighted_sum(y, weights, rows), (y, weights))


@pytest.mark.parametrize("grad", [False, True])
def test_expanded_gradients(grad):
    """.sum() hands the backward a tensor of stride zero."""
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=grad)
    y = through(x, make(6, 4, 2))
    y.sum().backward()
    assert not grad or x.grad.isfinite().all()
