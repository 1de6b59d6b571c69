"""Truth: the deviation that was asked for; the function of the FFN that was copied."""

import pytest
import torch

from mm_mhmoe.models.upcycling.copies import add_noise, copy_start, copy_to_all
from mm_mhmoe.nn import Experts, FeedForward, MoE, TopKRouter


def dense_ffn() -> FeedForward:
    torch.manual_seed(0)
    dense = FeedForward(8, 32).double()
    with torch.no_grad():
        for value in dense.parameters():
            value += 0.3 * torch.randn_like(value)
    return dense


@torch.no_grad()
@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
def test_noise_is_relative_to_each_expert(activation) -> None:
    torch.manual_seed(1)
    experts = Experts(3, 40, 80, activation=activation)
    experts.w1_EdF[1] *= 100
    before = {name: value.clone() for name, value in experts.named_parameters()}
    add_noise(experts, 0.0)
    assert all(torch.equal(before[name], value) for name, value in experts.named_parameters())
    add_noise(experts, 0.1)
    for name, value in experts.named_parameters():
        if name.startswith("w"):
            share_E = (value - before[name]).std(dim=(1, 2)) / before[name].std(dim=(1, 2))
            torch.testing.assert_close(share_E, torch.full((3,), 0.1), rtol=0.1, atol=0.0)
        else:
            assert torch.equal(value, before[name])


@torch.no_grad()
def test_every_expert_is_the_dense_ffn() -> None:
    dense, experts = dense_ffn(), Experts(3, 8, 32, sub_ln=True).double()
    copy_to_all(experts, dense)
    x_TD = torch.randn(5, 8, dtype=torch.float64)
    for e in range(3):
        h_TF = torch.nn.functional.gelu(x_TD @ experts.w1_EdF[e] + experts.b1_EF[e])
        h_TF = torch.nn.functional.layer_norm(h_TF, (32,), experts.norm_scale_EF[e], experts.norm_bias_EF[e], 1e-5)
        torch.testing.assert_close(h_TF @ experts.w2_EFd[e] + experts.b2_Ed[e], dense(x_TD), rtol=0.0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("times", [1, 3])
def test_the_shared_expert_answers_alone_at_first(times: int) -> None:
    """A LayerNorm over every hidden unit three times sees the same mean and deviation."""
    dense, shared = dense_ffn(), FeedForward(8, 32 * times).double()
    moe = MoE(TopKRouter(8, 4, 2), Experts(4, 8, 32, sub_ln=True), shared=shared).double()
    copy_start(moe, dense, noise=0.5)
    x_TD = torch.randn(5, 8, dtype=torch.float64)
    torch.testing.assert_close(shared(x_TD), dense(x_TD), rtol=0.0, atol=1e-12)
    torch.testing.assert_close(moe(x_TD)[0], dense(x_TD), rtol=0.0, atol=1e-12)
    assert moe.experts.w1_EdF.std() > 0
