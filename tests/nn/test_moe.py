"""Truth: the mixture's definition, token by token; the dense FFN; numerical gradients."""

import pytest
import torch
from torch import nn

from mm_mhmoe.nn import (
    Experts,
    FeedForward,
    MoE,
    TopKRouter,
    expert_load,
    load_balance_loss,
    router_z_loss,
)


class Spy(nn.Module):
    """Experts that remember what they were given."""

    def __init__(self, experts):
        super().__init__()
        self.experts = experts
        self.rows = None

    def forward(self, x, rows):
        self.rows = x[rows.source_N].detach().clone()
        return self.experts(x, rows)


def make(dim=12, num_experts=5, top_k=2, hidden=10, sub_ln=True, dtype=torch.float64):
    torch.manual_seed(0)
    return MoE(TopKRouter(dim, num_experts, top_k), Experts(num_experts, dim, hidden, sub_ln=sub_ln)).to(dtype)


def as_expert(dense, experts, e=0):
    """The dense FFN's weights as expert e."""
    with torch.no_grad():
        experts.w1_EdF[e], experts.b1_EF[e] = dense.fc1.weight.t(), dense.fc1.bias
        experts.w2_EFd[e], experts.b2_Ed[e] = dense.fc2.weight.t(), dense.fc2.bias
        if experts.norm_scale_EF is not None:
            nn.init.normal_(dense.norm.weight)
            nn.init.normal_(dense.norm.bias)
            experts.norm_scale_EF[e], experts.norm_bias_EF[e] = dense.norm.weight, dense.norm.bias


@pytest.mark.parametrize("sub_ln", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_expert_is_the_dense_ffn(sub_ln, dtype):
    """Same weights, same sums; only the layout of the matrices may change the order of adding."""
    moe = make(16, 1, 1, 32, sub_ln, dtype)
    dense = FeedForward(16, 32, sub_ln=sub_ln).to(dtype)
    as_expert(dense, moe.experts)
    x = torch.randn(50, 16, dtype=dtype, requires_grad=True)
    y, true = moe(x)[0], dense(x)
    bound = 20 * torch.finfo(dtype).eps
    torch.testing.assert_close(y, true, rtol=bound, atol=bound * true.abs().max().item())
    pull = torch.randn_like(true)
    (ours,), (theirs,) = torch.autograd.grad(y, x, pull), torch.autograd.grad(true, x, pull)
    torch.testing.assert_close(ours, theirs, rtol=bound, atol=4 * bound * theirs.abs().max().item())


@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("top_k", [1, 2, 5])
@pytest.mark.parametrize("sub_ln", [False, True])
def test_equals_one_token_at_a_time(top_k, sub_ln, padding):
    moe = make(top_k=top_k, sub_ln=sub_ln)
    x = torch.randn(30, 12, dtype=torch.float64)
    valid = torch.rand(30) > 0.4 if padding else None
    denses = []
    for e in range(5):
        dense = FeedForward(12, 10, sub_ln=sub_ln).double()
        as_expert(dense, moe.experts, e)
        denses.append(dense)
    y, _ = moe(x, valid)
    for s in range(30):
        if padding and not valid[s]:
            assert not y[s].any()
            continue
        prob = (moe.router.gate.weight @ x[s]).softmax(0)
        best = prob.argsort(descending=True)[:top_k]
        weights = prob[best] if top_k == 1 else prob[best] / prob[best].sum()
        true = sum(w * denses[e](x[s : s + 1])[0] for w, e in zip(weights, best.tolist(), strict=True))
        torch.testing.assert_close(y[s], true, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize("sub_ln", [False, True])
def test_gradients_are_the_numerical_ones(top_k, sub_ln):
    """Through tokens, experts, router and both balance losses. Choices are constant near a point."""
    moe = make(3, 4, top_k, 4, sub_ln)
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    valid = torch.tensor([1, 1, 0, 1, 1, 0], dtype=torch.bool)
    names = [name for name, _ in moe.named_parameters()]

    def run(x, *values):
        y, routing = torch.func.functional_call(moe, dict(zip(names, values, strict=True)), (x, valid))
        return y, router_z_loss(routing), routing.prob_SE[valid].square().sum()

    assert torch.autograd.gradcheck(run, (x, *moe.parameters()))


@pytest.mark.parametrize("poison", [torch.nan, torch.inf, 1e30])
def test_padding_is_neither_seen_nor_counted(poison):
    """The truth is the same call on the real tokens alone."""
    moe = make(dtype=torch.float32)
    moe.experts = spy = Spy(moe.experts)
    valid = torch.rand(40) > 0.4
    clean = torch.randn(40, 12)
    x = torch.where(valid[:, None], clean, poison)
    y, routing = moe(x, valid)
    assert len(spy.rows) == 2 * int(valid.sum())
    assert spy.rows.isfinite().all() and spy.rows.abs().max() < 1e3
    alone, alone_routing = moe(clean[valid])
    torch.testing.assert_close(y[valid], alone)
    assert not y[~valid].any()
    for function in (load_balance_loss, router_z_loss, expert_load):
        torch.testing.assert_close(function(routing), function(alone_routing))


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("valid", [torch.zeros(7, dtype=torch.bool), None])
def test_nothing_to_do(valid, autocast):
    """Seven padding rows, or no row at all: zero outputs, finite losses, finite gradients."""
    moe = make(dtype=torch.float32)
    x = torch.randn(0 if valid is None else 7, 12, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y, routing = moe(x, valid)
        loss = y.float().sum() + load_balance_loss(routing) + router_z_loss(routing)
    loss.backward()
    assert loss.item() == 0.0
    assert y.shape == x.shape and not y.any()
    assert all(p.grad is None or not p.grad.any() for p in moe.parameters())


def test_no_grad_gives_the_same_numbers():
    moe, x = make(), torch.randn(9, 12, dtype=torch.float64)
    with torch.no_grad():
        quiet, _ = moe(x)
    assert torch.equal(quiet, moe(x)[0]) and not quiet.requires_grad


def test_autocast_stays_near_fp32_and_routes_alike():
    moe, x = make(64, dtype=torch.float32, hidden=64), torch.randn(200, 64)
    true, routing = moe(x)
    with torch.autocast("cpu", torch.bfloat16):
        y, cast = moe(x)
    assert torch.equal(cast.experts_SK, routing.experts_SK)
    assert (y.float() - true).abs().max() < 0.03 * true.abs().max()
    y.float().sum().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in moe.parameters())


def test_a_shared_expert_is_added_and_sees_no_padding():
    plain = make()
    shared = FeedForward(12, 7).double()
    moe = MoE(plain.router, plain.experts, shared=shared)
    x, valid = torch.randn(9, 12, dtype=torch.float64), torch.arange(9) < 6
    x[~valid] = torch.nan
    y, _ = moe(x, valid)
    torch.testing.assert_close(y[valid], plain(x, valid)[0][valid] + shared(x[valid]))
    assert torch.equal(y[~valid], torch.zeros(3, 12, dtype=torch.float64))
