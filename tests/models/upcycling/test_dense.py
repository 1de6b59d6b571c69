"""Truth: the model's own outputs in float64, and the weights of its experts."""

from dataclasses import replace

import pytest
import torch

from mm_mhmoe.config import MoEConfig
from mm_mhmoe.models.upcycling import to_dense, to_sparse


@pytest.mark.parametrize("expert", [None, 0, 2])
@pytest.mark.parametrize("num_experts", [3, 4])
def test_there_and_back_is_bit_exact(config, copies, weights, num_experts, expert) -> None:
    dense = config(ffn="dense")
    before = weights(dense)
    target = copies(num_experts=num_experts, router="xmoe")
    back, after = to_dense(*to_sparse(dense, before, target), expert=expert)
    assert back == replace(dense, moe=target.moe)
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)


def test_mean_and_one_expert(copies, weights) -> None:
    config = copies()
    before = weights(config)
    stack = {name: before[f"blocks.1.ffn.experts.{name}"] for name in ("w1_EdF", "b1_EF", "w2_EFd", "norm_bias_EF")}
    _, mean = to_dense(config, before)
    _, third = to_dense(config, before, expert=2)
    for name, ours in (("w1_EdF", "fc1.weight"), ("b1_EF", "fc1.bias"), ("w2_EFd", "fc2.weight")):
        torch.testing.assert_close(mean[f"blocks.1.ffn.{ours}"].t(), sum(stack[name]) / 4)
        assert torch.equal(third[f"blocks.1.ffn.{ours}"].t(), stack[name][2])
    torch.testing.assert_close(mean["blocks.1.ffn.norm.bias"], sum(stack["norm_bias_EF"]) / 4)


@pytest.mark.parametrize("projection_layers", [0, 1])
def test_one_head_folds_into_the_two_matrices(copies, weights, states, projection_layers) -> None:
    """A single expert has the weight 1, so that the layer is an FFN between two linear maps."""
    config = copies("mh_moe", num_experts=1, top_k=1, heads=1, projection_layers=projection_layers)
    before = weights(config)
    after = to_dense(config, before)
    assert after[0].ffn == "dense"
    torch.testing.assert_close(states(*after), states(config, before), rtol=0.0, atol=1e-12)


def test_without_dense_layers_beside_them_experts_have_any_width(copies, weights, states) -> None:
    config = copies(every=1, num_experts=1, top_k=1, hidden_dim=96)
    before = weights(config)
    after = to_dense(config, before)
    assert after[0].ffn_dim == 96
    torch.testing.assert_close(states(*after), states(config, before), rtol=0.0, atol=1e-12)


BAD = [
    ({"ffn": "dense"}, {}, "dense already"),
    ({}, {"shared_experts": 1}, "moe.shared_experts=1"),
    ({}, {"activation": "swiglu"}, "moe.activation=swiglu"),
    ({}, {"expert_bias": False}, "moe.expert_bias=False"),
    ({"ffn": "mh_moe"}, {"heads": 4}, "moe.heads=4.*only with one head"),
    ({"ffn": "mh_moe"}, {"heads": 1, "projection_layers": 2}, "moe.projection_layers=2"),
    ({"ffn": "mh_moe"}, {"heads": 1, "inner_residual": True}, "moe.inner_residual=True"),
    ({}, {"hidden_dim": 96}, "96 hidden units and the dense FFNs beside it 128"),
]


@pytest.mark.parametrize(("changes", "moe", "told"), BAD, ids=[told for *_, told in BAD])
def test_what_has_no_dense_counterpart_is_refused(config, weights, changes: dict, moe: dict, told: str) -> None:
    made = MoEConfig(**{"num_experts": 4, "parity": "none", "hidden_dim": 128, **moe})
    model = config(**{"ffn": "moe", **changes, "moe": made})
    with pytest.raises(ValueError, match=told):
        to_dense(model, weights(model))


@pytest.mark.parametrize("expert", [-1, 4])
def test_an_expert_that_is_not_there_is_refused(copies, weights, expert: int) -> None:
    with pytest.raises(ValueError, match=f"expert={expert} is not one of 0 to 3"):
        to_dense(copies(), weights(copies()), expert=expert)
