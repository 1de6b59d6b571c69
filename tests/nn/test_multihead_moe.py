"""Truth: the plain MoE, and the layer's equations (arXiv 2404.15045, section 3) written with slices."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mm_mhmoe.nn import Experts, MoE, MultiHeadMoE, TopKRouter


def moe_of(dim, num_experts=4, top_k=2):
    return MoE(TopKRouter(dim, num_experts, top_k), Experts(num_experts, dim, 8, sub_ln=True))


class Identity(nn.Module):
    """A sparse layer that gives back what it got."""

    def forward(self, x, valid=None):
        self.seen = x, valid
        return x, None


class Double(Identity):
    def forward(self, x, valid=None):
        return 2 * x, "any routing"


def test_one_head_without_projections_is_the_moe_bit_for_bit():
    moe = moe_of(12)
    layer = MultiHeadMoE(12, 1, moe, projection_layers=0)
    x, valid = torch.randn(20, 12), torch.rand(20) > 0.3
    ours, theirs = layer(x, valid), moe(x, valid)
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1].weights_SK, theirs[1].weights_SK)


def test_without_the_split_the_two_layers_stay():
    """A row of the paper's ablation: multi-head layer, the sparse layer on whole tokens, merge layer."""
    torch.manual_seed(0)
    moe = moe_of(12).double()
    layer = MultiHeadMoE(12, 1, moe).double()
    head, merge = layer.projections()
    nn.init.normal_(merge.bias)
    x = torch.randn(20, 12, dtype=torch.float64)
    y, routing = layer(x)
    inner, _ = moe(x @ head.weight.t() + head.bias)
    torch.testing.assert_close(y, inner @ merge.weight.t() + merge.bias)
    assert len(routing.experts_SK) == 20


@given(tokens=st.integers(0, 9), heads=st.integers(1, 5), width=st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_split_and_merge_are_inverse(tokens, heads, width):
    moe = Identity()
    x = torch.randn(tokens, heads * width)
    y, _ = MultiHeadMoE(heads * width, heads, moe, projection_layers=0)(x)
    assert torch.equal(y, x)
    assert moe.seen[0].shape == (tokens * heads, width)


def test_sub_tokens_are_consecutive_slices_and_share_their_tokens_mask():
    moe = Identity()
    x = torch.arange(12.0).view(2, 6)
    MultiHeadMoE(6, 3, moe, projection_layers=0)(x, torch.tensor([True, False]))
    assert moe.seen[0].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]
    assert moe.seen[1].tolist() == [True] * 3 + [False] * 3


def test_any_sparse_layer_fits():
    layer = MultiHeadMoE(6, 3, Double(), projection_layers=0)
    y, routing = layer(torch.ones(2, 6))
    assert torch.equal(y, torch.full((2, 6), 2.0)) and routing == "any routing"


@pytest.mark.parametrize("padding", [False, True])
def test_equations_of_the_paper(padding):
    """x W_head -> h slices of D/h -> MoE on each -> concatenated -> W_merge."""
    torch.manual_seed(0)
    moe = moe_of(4).double()
    layer = MultiHeadMoE(12, 3, moe).double()
    linears = [child for child in layer.children() if isinstance(child, nn.Linear)]
    head, merge = linears
    for linear in linears:
        nn.init.normal_(linear.bias)
    x = torch.randn(10, 12, dtype=torch.float64)
    valid = torch.rand(10) > 0.4 if padding else None
    y, routing = layer(x, valid)
    z = x @ head.weight.t() + head.bias
    merged = torch.cat([moe(z[:, i : i + 4], valid)[0] for i in (0, 4, 8)], dim=1)
    torch.testing.assert_close(y, merged @ merge.weight.t() + merge.bias)
    assert len(routing.experts_SK) == 30


@pytest.mark.parametrize("layers", [0, 2, 3])
def test_more_projection_layers_and_the_inner_residual(layers):
    torch.manual_seed(0)
    moe = moe_of(4).double()
    layer = MultiHeadMoE(12, 3, moe, projection_layers=layers, inner_residual=True).double()
    x, valid = torch.randn(10, 12, dtype=torch.float64), torch.arange(10) < 7

    def project(linears, x):
        for number, linear in enumerate(linears):
            x = x @ linear.weight.t() + linear.bias
            x = x if number == len(linears) - 1 else nn.functional.gelu(x)
        return x

    linears = layer.projections()
    assert len(linears) == 2 * layers
    z = project(linears[:layers], x)
    merged = torch.cat([moe(z[:, i : i + 4], valid)[0] + z[:, i : i + 4] for i in (0, 4, 8)], dim=1)
    torch.testing.assert_close(layer(x, valid)[0][valid], project(linears[layers:], merged)[valid])


def test_gradients_are_the_numerical_ones():
    torch.manual_seed(1)
    layer = MultiHeadMoE(6, 2, MoE(TopKRouter(3, 3, 2), Experts(3, 3, 4, sub_ln=True))).double()
    x = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def run(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))[0]

    assert torch.autograd.gradcheck(run, (x, *layer.parameters()))


@pytest.mark.parametrize("poison", [torch.nan, 1e30])
def test_padding_changes_no_real_token(poison):
    layer = MultiHeadMoE(12, 3, moe_of(4))
    valid = torch.rand(30) > 0.4
    clean = torch.randn(30, 12)
    y, routing = layer(torch.where(valid[:, None], clean, poison), valid)
    alone, alone_routing = layer(clean[valid])
    torch.testing.assert_close(y[valid], alone)
    assert y.isfinite().all()
    assert torch.equal(routing.experts_SK[valid.repeat_interleave(3)], alone_routing.experts_SK)


@pytest.mark.parametrize("autocast", [False, True])
def test_every_parameter_learns(autocast):
    torch.manual_seed(0)
    layer = MultiHeadMoE(16, 4, moe_of(4))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y, _ = layer(torch.randn(64, 16))
    y.float().square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_projections_start_as_the_released_code():
    """Xavier-uniform bound: gain * sqrt(6 / (fan_in + fan_out)); gain 1/sqrt(2) for head, 1 for merge."""
    head, merge = (c for c in MultiHeadMoE(64, 4, Identity()).children() if isinstance(c, nn.Linear))
    bound = (6 / 128) ** 0.5
    assert 0.97 * bound < merge.weight.abs().max() <= bound
    assert 0.97 * bound / 2**0.5 < head.weight.abs().max() <= bound / 2**0.5 + 1e-7
    assert not merge.bias.any()


@pytest.mark.parametrize("heads", [0, 5])
def test_heads_that_do_not_divide_are_refused(heads):
    with pytest.raises(ValueError, match=rf"dim=12.*heads={heads}"):
        MultiHeadMoE(12, heads, Identity())
