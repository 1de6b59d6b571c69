"""Truth: the authors' own MH-MoE layer with Tutel's own dispatcher, forward and backward.

The golden values were made by tests/golden/make_released_mhmoe.py, which names the code and what was left out of it.
"""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mm_mhmoe.nn import Capacity, Experts, MoE, MultiHeadMoE, TopKRouter, XMoERouter, load_balance_loss

GOLDEN = Path(__file__).parents[1] / "golden" / "released_mhmoe.safetensors"
DIM, EXPERTS, HIDDEN = 16, 8, 8
CASES = {  # name: top_k, heads, options of their gate and experts; the script has the same table
    "xmoe_top1": (1, 4, {"xmoe": True, "sub_ln": True}),
    "xmoe_top2_ample": (2, 4, {"xmoe": True, "sub_ln": True, "dropless": True}),
    "linear_top2_normalized": (2, 2, {"sub_ln": True}),
    "command_top2": (2, 4, {"command": True}),
    "command_one_head": (1, 1, {"command": True}),
}


def theirs(case):
    return {key.removeprefix(f"{case}."): v for key, v in load_file(GOLDEN).items() if key.startswith(f"{case}.")}


def ours(case, golden):
    top_k, heads, options = CASES[case]
    width, sub_tokens = DIM // heads, heads * golden["x"].shape[1]
    command = options.get("command", False)
    if options.get("xmoe"):
        router = XMoERouter(width, EXPERTS, top_k, routing_dim=16, released=True)
    else:
        router = TopKRouter(width, EXPERTS, top_k, normalize=not command)
    experts = Experts(
        EXPERTS,
        width,
        HIDDEN,
        activation="swiglu" if command else "gelu",
        bias=not command,
        sub_ln=options.get("sub_ln", False),
    )
    capacity = None
    if not options.get("dropless"):
        # Theirs is k ceil(S / E), ours ceil(factor k S / E): half a place less, so that no rounding error adds one.
        room = top_k * math.ceil(sub_tokens / EXPERTS)
        capacity = Capacity(factor=(room - 0.5) * EXPERTS / (top_k * sub_tokens))
    return MultiHeadMoE(DIM, heads, MoE(router, experts, capacity=capacity), projection_layers=int(heads > 1))


def named(layer, golden, kind):
    """Our parameters' names and their values, in our layout."""
    v = {key.removeprefix(f"{kind}."): value for key, value in golden.items() if key.startswith(f"{kind}.")}
    fc1 = v["experts.fc1.weight"]
    if "experts.fc3.weight" in v:  # theirs: fc1(x) * silu(fc3(x))
        fc1 = torch.cat([v["experts.fc3.weight"], fc1], dim=1)
    found = {"moe.experts.w1_EdF": fc1.transpose(1, 2), "moe.experts.w2_EFd": v["experts.fc2.weight"].transpose(1, 2)}
    for ours, theirs in (
        ("head.weight", "multi_heads.weight"),
        ("head.bias", "multi_heads.bias"),
        ("merge.weight", "out_proj.weight"),
        ("merge.bias", "out_proj.bias"),
        ("moe.router.gate.weight", "gate.wg.weight"),
        ("moe.router.reduce.weight", "gate.wg_reduction.weight"),
        ("moe.router.embeddings_ER", "gate.wg"),
        ("moe.experts.b1_EF", "experts.fc1.bias"),
        ("moe.experts.b2_Ed", "experts.fc2.bias"),
        ("moe.experts.norm_scale_EF", "experts.ffn_layernorm.weight"),
        ("moe.experts.norm_bias_EF", "experts.ffn_layernorm.bias"),
    ):
        if theirs in v:
            found[ours] = v[theirs]
    assert found.keys() == dict(layer.named_parameters()).keys()
    return found


@pytest.mark.parametrize("case", CASES)
def test_the_same_output_loss_drops_and_gradients(case):
    golden = theirs(case)
    layer = ours(case, golden)
    layer.load_state_dict(named(layer, golden, "weight"))
    x = golden["x"][0].requires_grad_()
    y, routing = layer(x)
    balance = load_balance_loss(routing, first_choice=True)
    torch.testing.assert_close(y, golden["y"][0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(balance, golden["l_aux"], rtol=1e-6, atol=0.0)

    sent = torch.ones_like(golden["sent"]) if routing.sent_SK is None else routing.sent_SK
    assert torch.equal(sent, golden["sent"])
    if layer.moe.capacity is None:
        assert sent.all()
    else:
        assert layer.moe.capacity.room(routing) == int(golden["capacity"])
        assert not sent.all() and sent.any(dim=0).all()

    ((y * golden["pull"][0]).sum() + balance).backward()
    torch.testing.assert_close(x.grad, golden["grad.x"][0], rtol=1e-5, atol=1e-5)
    wanted = named(layer, golden, "grad")
    assert all(value.any() for value in wanted.values())
    found = {name: parameter.grad for name, parameter in layer.named_parameters()}
    torch.testing.assert_close(found, {name: wanted[name] for name in found}, rtol=1e-5, atol=2e-5)


def test_what_their_options_change():
    """The comparison would say little if the options that it sets did not matter."""
    golden = theirs("command_top2")
    layer = ours("command_top2", golden)
    layer.load_state_dict(named(layer, golden, "weight"))
    x, y = golden["x"][0], golden["y"][0]
    router, capacity = layer.moe.router, layer.moe.capacity
    with torch.no_grad():
        router.normalize = True
        assert (layer(x)[0] - y).abs().max() > 0.1
        router.normalize, layer.moe.capacity = False, None
        assert (layer(x)[0] - y).abs().max() > 0.1
        layer.moe.capacity = capacity
        routing = layer(x)[1]
    assert abs(load_balance_loss(routing) - golden["l_aux"]) > 1e-3  # over all choices, not the first ones
