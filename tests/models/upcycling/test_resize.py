"""Truth: the model's own outputs in float64 where clones or absent experts change nothing; loops where they do."""

from dataclasses import replace

import pytest
import torch

from mm_mhmoe.models.upcycling import resize, to_single_head
from mm_mhmoe.models.upcycling.layers import built_ffn, moe_of

EXACT = {"rtol": 0.0, "atol": 1e-12}


def ffn_of(config, weights: dict):
    part = {k.removeprefix("blocks.1.ffn."): v for k, v in weights.items() if k.startswith("blocks.1.ffn.")}
    return built_ffn(config, 1, part)


@pytest.mark.parametrize("ffn", ["moe", "mh_moe"])
@pytest.mark.parametrize("times", [2, 3])
def test_clones_with_as_many_more_choices_compute_the_same(copies, weights, states, router, ffn, times) -> None:
    config = copies(ffn, **router, heads=4, shared_experts=1)
    before = weights(config)
    bigger, after = resize(config, before, 4 * times, top_k=2 * times)
    assert bigger.moe.num_experts == 4 * times and bigger.moe.top_k == 2 * times
    torch.testing.assert_close(states(bigger, after), states(config, before), **EXACT)


def test_clones_with_the_old_top_k_drown_the_second_choice(copies, weights) -> None:
    """Both choices are clones of what was the first one, whose output then counts in full."""
    config = copies()
    before = weights(config)
    old, new = ffn_of(config, before), ffn_of(*resize(config, before, 8))
    x_TD = torch.randn(20, 32, dtype=torch.float64)
    first_T = old.router(x_TD).experts_SK[:, 0]
    y_TD, routing = new(x_TD)
    assert torch.equal(routing.experts_SK % 4, first_T.unsqueeze(1).expand(-1, 2))
    e = old.experts
    for t, expert in enumerate(first_T.tolist()):
        h_F = torch.nn.functional.gelu(x_TD[t] @ e.w1_EdF[expert] + e.b1_EF[expert])
        h_F = torch.nn.functional.layer_norm(h_F, (128,), e.norm_scale_EF[expert], e.norm_bias_EF[expert], 1e-5)
        torch.testing.assert_close(y_TD[t], h_F @ e.w2_EFd[expert] + e.b2_Ed[expert], **EXACT)


def test_router_noise_parts_clones(copies, weights, router) -> None:
    config = copies(**router)
    before = weights(config)
    _, plain = resize(config, before, 8, seed=3)
    _, after = resize(config, before, 8, router_noise=0.1, noise=0.2, seed=3)
    name = "blocks.1.ffn.router." + ("embeddings_ER" if router["router"].startswith("xmoe") else "gate.weight")
    assert torch.equal(plain[name][:4], plain[name][4:]) and torch.equal(plain[name][:4], before[name])
    assert ((after[name] - plain[name]).std() / before[name].std() - 0.1).abs() < 0.03
    assert (after[name][:4] != after[name][4:]).all()
    moved = {k for k in plain if not torch.equal(plain[k], after[k])}
    assert moved == {name, "blocks.1.ffn.experts.w1_EdF", "blocks.1.ffn.experts.w2_EFd"}


def test_clones_of_a_number_that_is_no_multiple(copies, weights) -> None:
    config = copies()
    before = weights(config)
    _, after = resize(config, before, 7)
    for name in ("experts.w1_EdF", "experts.b2_Ed", "experts.norm_scale_EF", "router.gate.weight"):
        old, new = (w[f"blocks.1.ffn.{name}"] for w in (before, after))
        assert torch.equal(new, torch.cat([old, old[:3]]))


@pytest.mark.parametrize("ffn", ["moe", "mh_moe"])
def test_unused_experts_can_go(copies, weights, states, ffn: str) -> None:
    """The bias of this router keeps experts 0 and 2 from ever being chosen."""
    config = copies(ffn, router="sigmoid_bias", heads=4)
    before = weights(config)
    (bias,) = (name for name in before if name.endswith("bias_E"))
    before[bias] = torch.tensor([-9.0, 0.0, -9.0, 0.1], dtype=torch.float64)
    smaller, after = resize(config, before, 2, counts={1: torch.tensor([0, 7, 0, 9])})
    assert smaller.moe.num_experts == 2
    assert after[bias].tolist() == [0.0, 0.1]
    torch.testing.assert_close(states(smaller, after), states(config, before), **EXACT)
    _, first = resize(config, before, 2)
    assert first[bias].tolist() == [-9.0, 0.0]


@torch.no_grad()
@pytest.mark.parametrize("kind", ["top_k", "xmoe", "xmoe_released", "sigmoid_bias"])
def test_tokens_that_chose_only_what_stays_get_the_same(copies, weights, kind: str) -> None:
    config = copies(router=kind)
    before = weights(config)
    old, new = ffn_of(config, before), ffn_of(*resize(config, before, 3, counts={1: torch.tensor([3, 0, 2, 1])}))
    x_TD = torch.randn(200, 32, dtype=torch.float64)
    y_TD, routing = old(x_TD)
    stays_T = (routing.experts_SK != 1).all(dim=1)
    assert 20 < stays_T.sum() < 180
    difference_T = (new(x_TD)[0] - y_TD).abs().amax(dim=1)
    assert difference_T[stays_T].max() < 1e-12 and difference_T[~stays_T].min() > 1e-3


def test_the_width_of_an_expert_stays(config, weights) -> None:
    """Under parity=flops half the width would follow from twice the top_k."""
    sparse = config(ffn="mh_moe")
    bigger, after = resize(sparse, weights(sparse), 8, top_k=4)
    assert bigger.expert_hidden_dim == sparse.expert_hidden_dim
    assert after["blocks.1.ffn.moe.experts.w2_EFd"].shape == (8, sparse.expert_hidden_dim, 8)
    assert resize(sparse, weights(sparse), 8)[0].moe.parity == "flops"
    by_parameters = config(ffn="mh_moe", moe=replace(sparse.moe, parity="params"))
    bigger, after = resize(by_parameters, weights(by_parameters), 8)
    assert bigger.expert_hidden_dim == by_parameters.expert_hidden_dim
    assert after["blocks.1.ffn.moe.experts.w2_EFd"].shape[1] == bigger.expert_hidden_dim


@pytest.mark.parametrize("projection_layers", [0, 1])
def test_a_plain_moe_is_mh_moe_with_one_head(config, weights, states, router, projection_layers) -> None:
    plain = config(ffn="moe", moe=config().moe.__class__(num_experts=4, **router, shared_experts=1))
    before = weights(plain)
    one_head, after = to_single_head(plain, before, projection_layers=projection_layers)
    assert one_head.ffn == "mh_moe" and one_head.moe.heads == 1
    assert len(moe_of(ffn_of(one_head, after)).experts.w1_EdF) == 4
    torch.testing.assert_close(states(one_head, after), states(plain, before), **EXACT)


def test_what_cannot_be_is_refused(config, copies, weights) -> None:
    sparse, before = copies(), weights(copies())
    with pytest.raises(ValueError, match="model is dense"):
        resize(config(ffn="dense"), before, 2)
    with pytest.raises(ValueError, match="num_experts=0"):
        resize(sparse, before, 0)
    with pytest.raises(ValueError, match=r"moe.top_k=2 must lie between 1 and moe.num_experts=1"):
        resize(sparse, before, 1)
    with pytest.raises(ValueError, match="router_noise=-1"):
        resize(sparse, before, 8, router_noise=-1)
    with pytest.raises(ValueError, match="noise=-1"):
        resize(sparse, before, 8, noise=-1)
    with pytest.raises(ValueError, match=r"counts of shape \(3,\) were given for 4"):
        resize(sparse, before, 2, counts={1: torch.ones(3)})
    with pytest.raises(ValueError, match="ffn=dense; only moe"):
        to_single_head(config(ffn="dense"), before)
    with pytest.raises(ValueError, match="projection_layers=2"):
        to_single_head(sparse, before, projection_layers=2)
