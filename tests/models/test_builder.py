"""Truth: every router that a configuration can name, alone and under MultiHeadMoE, keeps the layer's contract."""

import pytest
import torch

from mm_mhmoe.config import MoEConfig
from mm_mhmoe.models.builder import build_encoder, build_ffn
from mm_mhmoe.nn import (
    Capacity,
    ExpertChoiceRouter,
    FeedForward,
    MoE,
    MultiHeadMoE,
    SigmoidRouter,
    TopKRouter,
    XMoERouter,
)

ROUTERS = {
    "top_k": TopKRouter,
    "xmoe": XMoERouter,
    "xmoe_released": XMoERouter,
    "sigmoid_bias": SigmoidRouter,
    "expert_choice": ExpertChoiceRouter,
}


def sparse_layer(config, ffn, **options) -> MoE:
    layer = build_ffn(config(ffn=ffn, moe=MoEConfig(num_experts=4, every=1, **options)), 0)
    moe = layer.moe if isinstance(layer, MultiHeadMoE) else layer
    assert isinstance(moe, MoE)
    return moe


OPTIONS = [{"router": kind} for kind in ROUTERS] + [{"router": "xmoe", "xmoe_gate": "sigmoid"}]


@pytest.mark.parametrize("ffn", ["moe", "mh_moe"])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options.values()))
def test_every_router_under_both_layers(config, stream, ffn, options) -> None:
    torch.manual_seed(0)
    chosen = config(ffn=ffn, moe=MoEConfig(num_experts=4, every=1, router_dim=4, **options))
    encoder = build_encoder(chosen).double()
    router = sparse_layer(config, ffn, **options).router
    assert type(router) is ROUTERS[options["router"]]
    if "xmoe_gate" in options:
        assert router.gate == options["xmoe_gate"]
    batch = stream("texts", dtype=torch.float64)
    output = encoder(batch)
    states, valid = output.streams[0].text_BLD, batch.texts.valid_BL
    states[valid].square().sum().backward()
    for routing in (layer.routing for layer in output.routing):
        assert not (routing.target_SK[~routing.valid_S] < routing.num_experts).any()
    learned = [p for name, p in encoder.named_parameters() if ".router." in name]
    assert learned and all(p.grad is not None and p.grad.abs().max() > 0 for p in learned)


def test_capacity_and_shared_expert_come_from_the_configuration(config) -> None:
    plain = sparse_layer(config, "mh_moe")
    assert plain.capacity is None and plain.shared is None
    full = sparse_layer(config, "mh_moe", capacity_factor=1.25, drop_policy="priority", shared_experts=2)
    assert full.capacity == Capacity(factor=1.25, policy="priority")
    assert isinstance(full.shared, FeedForward)
    hidden = config(moe=MoEConfig(num_experts=4, every=1, shared_experts=2)).expert_hidden_dim
    assert full.shared.fc1.weight.shape == (2 * hidden, 32 // 4)
    deep = build_ffn(config(moe=MoEConfig(num_experts=4, every=1, projection_layers=2, inner_residual=True)), 0)
    assert isinstance(deep, MultiHeadMoE) and len(deep.projections()) == 4 and deep.inner_residual
    assert plain.router.normalize
    for router in ("top_k", "xmoe", "xmoe_released"):
        assert not sparse_layer(config, "mh_moe", router=router, normalize_weights=False).router.normalize
    unsplit = build_ffn(config(moe=MoEConfig(num_experts=4, every=1, heads=1)), 0)
    assert isinstance(unsplit, MultiHeadMoE) and unsplit.heads == 1 and len(unsplit.projections()) == 2
    noisy = sparse_layer(config, "moe", second_policy="random", router_jitter=0.01, router_noise=0.25).router
    assert (noisy.second_policy, noisy.jitter, noisy.noise) == ("random", 0.01, 0.25)
