"""Truth: the same layer without torch.compile.

What a compiled layer consists of: three graphs (multi-head layer and split; router; merge and merge layer) and one
place where they are cut, `MoE._compute_choices`, which runs as it is. torch._dynamo.explain counts two breaks there,
one for MultiHeadMoE and one for the MoE inside it. A shared expert is a fourth graph; expert choice with padding is cut
once more, where it counts the real rows. Without that one place there were nine graphs and eight breaks, the loop over
experts unrolled, and all of it compiled anew whenever another expert got no row.
"""

import os
import shutil

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from mm_mhmoe.nn import (
    Capacity,
    ExpertChoiceRouter,
    Experts,
    FeedForward,
    MoE,
    MultiHeadMoE,
    SigmoidRouter,
    TopKRouter,
    XMoERouter,
)

COMPILER = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
ROUTERS = {
    "top_k": lambda: TopKRouter(8, 6, 2),
    "xmoe": lambda: XMoERouter(8, 6, 2),
    "sigmoid": lambda: SigmoidRouter(8, 6, 2),
    "expert_choice": lambda: ExpertChoiceRouter(8, 6, 2),
}


@pytest.fixture(autouse=True)
def afresh():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def make(router="top_k", heads=4, full=False):
    torch.manual_seed(0)
    options = {"capacity": Capacity(factor=0.8), "shared": FeedForward(8, 12)} if full else {}
    moe = MoE(ROUTERS[router](), Experts(6, 8, 16, sub_ln=True), **options)
    return MultiHeadMoE(8 * heads, heads, moe) if heads > 1 else moe


def assert_same(found, wanted, bound):
    """Every tensor within a share `bound` of its own largest entry."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype and value.any(), name
        assert (found[name] - value).abs().max() <= bound * value.abs().max(), name


def run(layer, function, x, valid):
    """Output, choices and all gradients."""
    layer.zero_grad()
    x = x.clone().requires_grad_()
    y, routing = function(x, valid)
    (y.float().square().sum() + routing.weights_SK.square().sum()).backward()
    grads = {name: parameter.grad.clone() for name, parameter in layer.named_parameters()}
    return {"y": y.detach(), "experts": routing.experts_SK, "x": x.grad, **grads}


@pytest.mark.parametrize("router, heads, padded", [(r, 4, True) for r in ROUTERS] + [("top_k", 1, False)])
def test_the_same_numbers(router, heads, padded):
    layer = make(router, heads, full=True)
    x, valid = torch.randn(24, 8 * heads), torch.arange(24) < 20 if padded else None
    compiled = run(layer, torch.compile(layer, backend="aot_eager"), x, valid)
    assert_same(compiled, run(layer, layer, x, valid), 1e-5)


@pytest.mark.skipif(not COMPILER, reason="torch's own backend needs a C++ compiler on CPUs")
def test_the_same_numbers_from_generated_code():
    layer = make(full=True)
    x, valid = torch.randn(24, 32), torch.arange(24) < 20
    compiled = run(layer, torch.compile(layer, backend="inductor"), x, valid)
    assert_same(compiled, run(layer, layer, x, valid), 1e-5)


def test_under_autocast():
    layer = make(full=True)
    x, valid = torch.randn(24, 32), torch.arange(24) < 20
    with torch.autocast("cpu", torch.bfloat16):
        compiled = run(layer, torch.compile(layer, backend="aot_eager"), x, valid)
        plain = run(layer, layer, x, valid)
    assert plain["y"].dtype == torch.bfloat16 and torch.equal(compiled["experts"], plain["experts"])
    assert_same(compiled, plain, 0.01)


def test_where_it_is_cut():
    x, valid = torch.randn(24, 32), torch.arange(24) < 20

    def explained(layer):
        torch.compiler.reset()
        found = torch._dynamo.explain(layer)(x, valid)
        ours = ["number of rows of an expert" in str(cut.reason) for cut in found.break_reasons]
        return found.graph_count, ours

    for router in ("top_k", "xmoe", "sigmoid"):
        assert explained(make(router)) == (3, [True, True])
    graphs, ours = explained(make(full=True))
    assert graphs == 4 and all(ours)
    graphs, ours = explained(make("expert_choice"))
    assert graphs == 4 and not all(ours)


def test_it_is_not_compiled_anew_for_every_batch():
    """Other loads, idle experts among them, compile nothing; another number of tokens does once, for all numbers."""
    counter = CompileCounter()
    layer = make()
    function = torch.compile(layer, backend=counter)
    function(torch.randn(24, 32))
    assert counter.frame_count == 3
    idle = 0
    for seed in range(6):
        torch.manual_seed(seed)
        _, routing = function(torch.randn(1, 32).repeat(24, 1))
        idle += 6 - routing.experts_SK.unique().numel()
    assert counter.frame_count == 3 and idle > 0
    for tokens in (32, 40, 50):
        function(torch.randn(tokens, 32))
    assert counter.frame_count == 6
