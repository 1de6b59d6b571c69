"""Truth: softmax and top-k in float64 numpy, and the definitions of the papers that the router cites."""

import numpy as np
import pytest
import torch
from torch import nn

from mm_mhmoe.nn import TopKRouter
from mm_mhmoe.nn.routing import softmax_rows


def make(dim=16, num_experts=8, top_k=2):
    torch.manual_seed(0)
    return TopKRouter(dim, num_experts, top_k)


@pytest.mark.parametrize(("num_experts", "top_k"), [(8, 1), (8, 2), (8, 8), (3, 2), (300, 4)])
def test_against_numpy(num_experts, top_k):
    router = make(16, num_experts, top_k)
    x = torch.randn(50, 16)
    routing = router(x)
    logits = x.double().numpy() @ router.gate.weight.detach().double().numpy().T
    prob = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    best = np.argsort(-logits, axis=1, kind="stable")[:, :top_k]
    chosen = np.take_along_axis(prob, best, 1)
    weights = chosen if top_k == 1 else chosen / chosen.sum(1, keepdims=True)
    np.testing.assert_allclose(routing.prob_SE.detach().numpy(), prob, atol=1e-5)
    np.testing.assert_array_equal(routing.experts_SK.numpy(), best)
    np.testing.assert_allclose(routing.weights_SK.detach().numpy(), weights, atol=1e-5)
    assert routing.num_experts == num_experts
    assert routing.experts_SK.dtype == torch.int64


def test_a_single_choice_keeps_its_probability_so_that_the_router_learns():
    router = make(top_k=1)
    routing = router(torch.randn(20, 16))
    torch.testing.assert_close(routing.weights_SK[:, 0], routing.prob_SE.max(dim=1).values)
    routing.weights_SK.sum().backward()
    assert router.gate.weight.grad.abs().max() > 0


def test_weights_that_stay_probabilities():
    router = TopKRouter(16, 8, 3, normalize=False)
    routing = router(torch.randn(20, 16))
    torch.testing.assert_close(routing.weights_SK, routing.prob_SE.gather(1, routing.experts_SK))
    assert (routing.weights_SK.sum(dim=1) < 0.99).all()


def test_a_single_expert_has_weight_one():
    routing = make(num_experts=1, top_k=1)(torch.randn(20, 16))
    assert torch.equal(routing.weights_SK, torch.ones(20, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_changes_nothing(dtype):
    """bf16 products would: the last line shows that they flip choices on this input."""
    router = make(64, 64, 2)
    x = torch.randn(4096, 64).to(dtype)
    plain = router(x)
    with torch.autocast("cpu", torch.bfloat16):
        cast = router(x)
        logits_bf16 = nn.functional.linear(x, router.gate.weight)
    assert torch.equal(cast.experts_SK, plain.experts_SK)
    assert torch.equal(cast.weights_SK, plain.weights_SK)
    assert cast.logits_SE.dtype == cast.prob_SE.dtype == cast.weights_SK.dtype == torch.float32
    assert not torch.equal(logits_bf16.topk(2).indices, plain.experts_SK)


@pytest.mark.parametrize("top_k", [0, 9, -1])
def test_top_k_outside_the_experts_is_refused(top_k):
    with pytest.raises(ValueError, match=r"top_k=.*num_experts=8"):
        TopKRouter(16, 8, top_k)


def test_no_rows():
    routing = make()(torch.zeros(0, 16))
    assert routing.experts_SK.shape == (0, 2)
    assert routing.prob_SE.shape == (0, 8)


def test_the_random_second_choice_is_taken_as_often_as_twice_its_weight():
    """GShard, arXiv 2006.16668, algorithm 1; over 20,000 draws a share is within 0.02 with five deviations to spare."""
    router = TopKRouter(16, 8, 2, second_policy="random")
    x = torch.randn(1, 16).expand(20_000, 16)
    routing = router(x)
    assert routing.sent_SK[:, 0].all()
    share = min(1.0, 2 * routing.weights_SK[0, 1].item())
    assert 0.05 < share < 0.95
    assert routing.sent_SK[:, 1].float().mean().item() == pytest.approx(share, abs=0.02)
    assert router.eval()(x).sent_SK is None


@pytest.mark.parametrize("options", [{"jitter": 0.1}, {"noise": 0.5}])
def test_noise_is_there_in_training_only(options):
    torch.manual_seed(0)
    router, x = TopKRouter(16, 8, 2, **options), torch.randn(400, 16)
    clean = x @ router.gate.weight.t()
    noise = (router(x).logits_SE - clean).detach()
    if "noise" in options:
        assert noise.std().item() == pytest.approx(0.5, rel=0.1)
    else:  # sum_i w_i x_i u_i with u uniform in [-a, a], whose variance is a^2 / 3
        wanted = (0.1**2 / 3 * (x**2 @ (router.gate.weight**2).t())).mean().sqrt().item()
        assert noise.std().item() == pytest.approx(wanted, rel=0.1)
    assert torch.equal(router.eval()(x).logits_SE, clean)


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="second_policy=random"):
        TopKRouter(16, 8, 1, second_policy="random")
    with pytest.raises(ValueError, match=r"jitter=1\.5"):
        TopKRouter(16, 8, 1, jitter=1.5)


@pytest.mark.parametrize("columns", [1, 2, 8, 16, 33])
def test_softmax_of_rows(columns):
    """Truth: torch's own, in float64. Few columns take another way through torch."""
    logits = 5 * torch.randn(9, columns, dtype=torch.float64, requires_grad=True)
    ours, true = softmax_rows(logits), logits.softmax(dim=1)
    torch.testing.assert_close(ours, true)
    pull = torch.randn_like(true)
    torch.testing.assert_close(*(torch.autograd.grad(y, logits, pull)[0] for y in (ours, true)))
