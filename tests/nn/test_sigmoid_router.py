"""Truth: loops over the formulas of arXiv 2412.19437, section 2.1.2."""

import math

import pytest
import torch

from mm_mhmoe.nn import SigmoidRouter, expert_load


def make(top_k=2, **options):
    torch.manual_seed(0)
    return SigmoidRouter(16, 6, top_k, **options), torch.randn(40, 16)


@pytest.mark.parametrize("top_k", [1, 2, 6])
def test_the_bias_chooses_and_the_score_weighs(top_k):
    router, x = make(top_k)
    router.bias_E.copy_(torch.tensor([0.3, -0.2, 0.0, 0.1, -0.4, 0.2]))
    routing = router(x)
    for s in range(len(x)):
        scores = [1 / (1 + math.exp(-logit)) for logit in (x[s] @ router.gate.weight.t()).tolist()]
        best = sorted(range(6), key=lambda e: -(scores[e] + float(router.bias_E[e])))[:top_k]
        total = sum(scores[e] for e in best) if top_k > 1 else 1.0
        assert routing.experts_SK[s].tolist() == best
        assert routing.weights_SK[s].tolist() == pytest.approx([scores[e] / total for e in best], rel=1e-5)


def test_an_update_moves_each_bias_by_one_step_against_its_load():
    router, x = make(bias_step=0.25)
    valid = torch.arange(40) < 30
    routing = router(x, valid)
    counts = [sum(e in routing.experts_SK[s].tolist() for s in range(30)) for e in range(6)]
    router.update_bias(routing)
    mean = sum(counts) / 6
    assert router.bias_E.tolist() == [0.25 * ((mean > c) - (mean < c)) for c in counts]


def test_ranks_with_the_summed_counts_get_the_same_bias():
    router, x = make()
    twin = SigmoidRouter(16, 6, 2)
    twin.load_state_dict(router.state_dict())
    first, second = router(x[:20]), router(x[20:])
    total = torch.stack([r.experts_SK.flatten().bincount(minlength=6).float() for r in (first, second)]).sum(0)
    router.update_bias(first, lambda counts: total)
    twin.update_bias(second, lambda counts: total)
    assert torch.equal(router.bias_E, twin.bias_E) and router.bias_E.abs().max() > 0


def test_updates_even_out_a_lopsided_load():
    router, x = make(bias_step=0.005)
    x = x + 1.0
    with torch.no_grad():
        router.gate.weight[0].add_(0.05)
        router.gate.weight[1].sub_(0.05)
    before = expert_load(router(x)).max()
    for _ in range(200):
        router.update_bias(router(x))
    assert before > 0.3 > 0.23 > expert_load(router(x)).max()  # even: 1 / 6


def test_the_bias_is_saved_and_has_no_gradient():
    router, x = make()
    assert "bias_E" in router.state_dict()
    router(x).weights_SK[:, 0].sum().backward()
    assert not router.bias_E.requires_grad and router.gate.weight.grad.abs().max() > 0
