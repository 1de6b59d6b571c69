"""Truth: layers with the same weights give the same output, and torch's own count of FLOPs."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mm_mhmoe.analysis.layer_bench import LayerSize, build_layers, layer_inputs, products, run

OURS = [f"MH-MoE, keep {keep}" for keep in ("all", "hidden", "tokens")]
SIZE = LayerSize(tokens=512, dim=32, heads=4, experts=4, top_k=2, hidden=48)


@pytest.fixture
def layers():
    torch.manual_seed(0)
    return build_layers(SIZE)


def flops(call) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def first_bias(name: str) -> int:
    """FLOPs of the bias that our experts add inside their first product, as a row of its matrix."""
    rows = SIZE.tokens * SIZE.top_k * (1 if name == "MoE" else SIZE.heads)
    return 2 * rows * (SIZE.ffn_dim // SIZE.top_k if name == "MoE" else SIZE.hidden)


def test_all_layers_have_the_flops_of_the_dense_ffn(layers) -> None:
    x, _, _ = layer_inputs(SIZE, layers[OURS[0]], torch.float32)
    dense = flops(run(layers["dense FFN"], x, None, training=False))
    for name in ("MoE", *OURS):
        beside = 2 * 512 * 32 * 4 + first_bias(name)
        assert flops(run(layers[name], x, None, training=False)) == dense + beside


def test_the_limit_is_the_layers_own_products(layers) -> None:
    x, grad, counts = layer_inputs(SIZE, layers[OURS[0]], torch.float32)
    limit, router = products(SIZE, torch.float32, counts), 2 * 512 * 32 * 4
    bias = first_bias(OURS[0])
    assert flops(limit["forward"]) == flops(run(layers[OURS[0]], x, None, training=False)) - router - bias
    training = flops(run(layers[OURS[0]], x, grad, training=True))
    assert flops(limit["training"]) == training - 3 * router - 2 * bias


def test_every_layer_that_has_our_weights_gives_our_output(layers) -> None:
    """The einsum form drops what does not fit; tokens of which nothing was dropped are compared."""
    x, grad = torch.randn(512, 32), torch.randn(512, 32)
    found = []
    for name in OURS:
        y, _ = layers[name](x)
        found.append([y, *torch.autograd.grad(y, list(layers[name].parameters()), grad)])
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])
    einsum, _ = layers["MH-MoE, einsum dispatch"](x)
    same = (einsum - found[0][0]).abs().amax(1) < 1e-5
    assert 0.3 < same.float().mean() < 1.0
