"""Truth: the formulas of arXiv 2204.09179 in loops; for `released`, golden values of torchscale 0.3.0's Top1Gate.

The golden values were made by tests/golden/make_torchscale_gates.py.
"""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mm_mhmoe.nn import XMoERouter, load_balance_loss

GOLDEN = Path(__file__).parents[1] / "golden" / "torchscale_gates.safetensors"


def make(**options):
    torch.manual_seed(0)
    router = XMoERouter(16, 8, **{"top_k": 1, "routing_dim": 4, **options}).double()
    return router, torch.randn(20, 16, dtype=torch.float64)


def cosine(a, b):
    return (a @ b / (a.norm() * b.norm())).item()


@pytest.mark.parametrize("gate, fixed", [("softmax", 0.3), ("sigmoid", 0.07)])
@pytest.mark.parametrize("top_k", [1, 2])
def test_cosines_temperatures_and_choices(gate, fixed, top_k):
    router, x = make(gate=gate, top_k=top_k)
    with torch.no_grad():
        router.log_temperature.fill_(math.log(0.2))
    routing = router(x)
    for s in range(len(x)):
        low = router.reduce.weight @ x[s]
        scores = [cosine(low, router.embeddings_ER[e]) for e in range(8)]

        def activate(temperature, scores=scores):
            if gate == "sigmoid":
                return [1 / (1 + math.exp(-score / temperature)) for score in scores]
            total = sum(math.exp(score / temperature) for score in scores)
            return [math.exp(score / temperature) / total for score in scores]

        gates = activate(0.2)
        best = sorted(range(8), key=lambda e: -gates[e])[:top_k]
        total = sum(gates[e] for e in best) if top_k > 1 else 1.0
        assert routing.experts_SK[s].tolist() == best
        assert routing.weights_SK[s].tolist() == pytest.approx([gates[e] / total for e in best])
        assert routing.prob_SE[s].tolist() == pytest.approx(activate(fixed))  # what the balance loss sees


def test_weights_that_stay_probabilities():
    router, x = make(top_k=3, normalize=False)
    routing = router(x)
    probability = routing.logits_SE.softmax(dim=1).gather(1, routing.experts_SK)
    torch.testing.assert_close(routing.weights_SK, probability)
    assert (routing.weights_SK.sum(dim=1) < 0.99).all()


def test_the_length_of_a_token_does_not_matter_but_in_the_released_code():
    for released, same in ((False, True), (True, False)):
        router, x = make(released=released)
        assert torch.allclose(router(x).logits_SE, router(5 * x).logits_SE) is same


def test_the_temperature_learns_and_the_fixed_one_keeps_it_out_of_the_balance_loss():
    router, x = make()
    load_balance_loss(router(x)).backward()
    assert router.log_temperature.grad is None and router.embeddings_ER.grad.abs().max() > 0
    router(x).weights_SK.sum().backward()
    assert router.log_temperature.grad.abs() > 0


def test_released_equals_torchscale():
    golden = load_file(GOLDEN)
    router = XMoERouter(12, 8, top_k=1, routing_dim=16, released=True)
    with torch.no_grad():
        router.reduce.weight.copy_(golden["xmoe.wg_reduction"])
        router.embeddings_ER.copy_(golden["xmoe.wg"])
    routing = router(golden["x"])
    dense = torch.zeros(len(golden["x"]), 8).scatter_(1, routing.experts_SK, routing.weights_SK)
    torch.testing.assert_close(dense, golden["xmoe.combine"])
    torch.testing.assert_close(load_balance_loss(routing), golden["xmoe.l_aux"])


def test_a_sigmoid_gate_is_not_in_the_released_code():
    with pytest.raises(ValueError, match="gate=sigmoid"):
        XMoERouter(16, 8, gate="sigmoid", released=True)
