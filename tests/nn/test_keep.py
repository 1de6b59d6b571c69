"""Truth: a sparse layer as a plain loop over its experts in fp32, differentiated by autograd.

Under every `keep`: with padding, a capacity that drops, and an expert that nobody chooses.
"""

import pytest
import torch
import torch.nn.functional as F

from mm_mhmoe.nn import Capacity, Experts, MoE, TopKRouter

TOKENS, DIM, EXPERTS, HIDDEN = 90, 16, 5, 24


def make(**kind):
    torch.manual_seed(0)
    moe = MoE(TopKRouter(DIM, EXPERTS, top_k=2), Experts(EXPERTS, DIM, HIDDEN, **kind), capacity=Capacity(factor=0.7))
    with torch.no_grad():
        for parameter in moe.experts.parameters():  # scales of one and biases of zero would hide a mix-up of experts
            parameter.normal_(std=0.4)
        moe.router.gate.weight[4, 0] = -1e3  # the first number of every token is one
    return moe


def plain_loop(moe, x_Sd, valid_S):
    routing = moe.capacity(moe.router(x_Sd, valid_S))
    parts, target_SK = moe.experts, routing.target_SK
    y_Sd = torch.zeros_like(x_Sd)
    for e in range(EXPERTS):
        s, k = torch.where(target_SK == e)
        h = F.linear(x_Sd[s], parts.w1_EdF[e].t(), parts.b1_EF[e])
        h = F.gelu(h) if parts.activation == "gelu" else F.silu(h[:, :HIDDEN]) * h[:, HIDDEN:]
        if parts.norm_scale_EF is not None:
            h = F.layer_norm(h, (HIDDEN,), parts.norm_scale_EF[e], parts.norm_bias_EF[e], parts.norm_eps)
        y = F.linear(h, parts.w2_EFd[e].t(), parts.b2_Ed[e])
        y_Sd = y_Sd.index_add(0, s, routing.weights_SK[s, k].unsqueeze(1) * y)
    return y_Sd, routing


@pytest.mark.parametrize("keep", ["all", "hidden", "tokens"])
@pytest.mark.parametrize("sub_ln", [False, True])
@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_equals_the_plain_loop(dtype, bound, activation, sub_ln, keep):
    """bf16 by autocast. Errors are norms, relative to the truth's."""
    moe = make(activation=activation, sub_ln=sub_ln, keep=keep)
    x, pull = torch.randn(TOKENS, DIM), torch.randn(TOKENS, DIM)
    x[:, 0] = 1.0
    x.requires_grad_()
    valid = torch.arange(TOKENS) < 80
    inputs = dict(moe.named_parameters()) | {"x": x}

    true, routing = plain_loop(moe, x, valid)
    counts = routing.target_SK[valid].flatten().bincount(minlength=EXPERTS + 1)
    assert counts[4] == 0 < counts[5], "an idle expert, and choices that were dropped"
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        ours, _ = moe(x, valid)
    assert not ours[~valid].any()

    def grads(y):
        return dict(zip(inputs, torch.autograd.grad((y.float() * pull).sum(), list(inputs.values())), strict=True))

    found, wanted = {"y": ours, **grads(ours)}, {"y": true, **grads(true)}
    for name, value in wanted.items():
        assert (found[name] - value).norm() <= bound * value.norm(), name
    assert not found["experts.w1_EdF"][4].any()
