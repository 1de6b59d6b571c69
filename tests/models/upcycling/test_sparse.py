"""Truth: the dense model's own outputs in float64, and its outputs times the weights that the router gave."""

from dataclasses import replace

import pytest
import torch

from mm_mhmoe.config import MoEConfig
from mm_mhmoe.models.builder import build_encoder
from mm_mhmoe.models.tasks import PretrainModel
from mm_mhmoe.models.upcycling import preserves_function, to_sparse
from mm_mhmoe.models.upcycling.layers import built_ffn

EXACT = {"rtol": 0.0, "atol": 1e-12}


@pytest.fixture(scope="session")
def dense(config):
    return config(ffn="dense")


def limited(router: dict, capacity: float | None) -> dict:
    """With a capacity, but for expert choice, which has one of its own."""
    return router if router["router"] == "expert_choice" else {**router, "capacity_factor": capacity}


@pytest.mark.parametrize("sub_ln", [True, False])
@pytest.mark.parametrize("top_k", [2, 3])
def test_copies_with_normalised_weights_are_the_dense_model(config, copies, weights, states, top_k, sub_ln) -> None:
    dense = config(ffn="dense", sub_ln=sub_ln)
    target = replace(copies(top_k=top_k, router_dim=4), sub_ln=sub_ln)
    before = weights(dense)
    after = to_sparse(dense, before, target)
    assert after[0] == target
    torch.testing.assert_close(states(*after), states(dense, before), **EXACT)


@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize("shared", [0, 1, 2])
@pytest.mark.parametrize("capacity", [None, 0.5])
def test_what_is_said_to_be_preserved_is(dense, copies, weights, states, router, top_k, shared, capacity) -> None:
    target = copies(**limited(router, capacity), top_k=top_k, shared_experts=shared)
    before = weights(dense)
    difference = (states(*to_sparse(dense, before, target)) - states(dense, before)).abs().max()
    if preserves_function(target):
        assert difference < 1e-12
    else:
        assert difference > 1e-2


@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize("capacity", [None, 0.5])
def test_copies_scale_the_dense_ffn_by_the_weights_computed(dense, copies, weights, router, top_k, capacity) -> None:
    """Whatever the router does: with equal experts, a token's output is its weights' sum times the dense output."""
    target = copies(**limited(router, capacity), top_k=top_k)
    before = weights(dense)
    _, after = to_sparse(dense, before, target)
    plain, sparse = (
        built_ffn(c, 1, {k.removeprefix("blocks.1.ffn."): v for k, v in w.items() if k.startswith("blocks.1.ffn.")})
        for c, w in ((dense, before), (target, after))
    )
    x_TD = torch.randn(50, 32, dtype=torch.float64)
    y_TD, routing = sparse(x_TD)
    computed_SK = routing.target_SK < routing.num_experts
    scale_T = (routing.weights_SK * computed_SK).sum(dim=1, keepdim=True)
    torch.testing.assert_close(y_TD, scale_T * plain(x_TD), **EXACT)
    assert (scale_T - 1).abs().max() > 0.1 or preserves_function(target)


@pytest.mark.parametrize("projection_layers", [0, 1])
def test_one_head_is_the_dense_model(dense, copies, weights, states, projection_layers) -> None:
    target = copies("mh_moe", heads=1, projection_layers=projection_layers)
    assert preserves_function(target)
    before = weights(dense)
    torch.testing.assert_close(states(*to_sparse(dense, before, target)), states(dense, before), **EXACT)


@pytest.mark.parametrize(("every", "sparse"), [(1, {0, 1, 2, 3}), (2, {1, 3}), (3, {2})])
def test_every_n_th_layer_becomes_sparse(config, copies, weights, every: int, sparse: set[int]) -> None:
    dense = config(ffn="dense", depth=4)
    before = weights(dense)
    _, after = to_sparse(dense, before, config(ffn="moe", depth=4, moe=replace(copies().moe, every=every)))
    assert {int(name.split(".")[1]) for name in after if ".experts." in name} == sparse
    kept = [name for name in before if name in after]
    assert len(kept) == len(before) - 6 * len(sparse)
    assert all(torch.equal(before[name], after[name]) for name in kept)


def test_a_whole_model_keeps_its_heads_and_its_precision(dense, copies) -> None:
    torch.manual_seed(0)
    model = PretrainModel(dense, 8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    target, after = to_sparse(dense, before, copies())
    made = PretrainModel(target, 8)
    made.load_state_dict(after)
    assert torch.equal(made.image_head.weight, model.image_head.weight)
    assert {value.dtype for value in after.values()} == {torch.float32}
    with torch.no_grad():
        for value in after.values():
            value += 1.0
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items()), "the result shares memory"


def experts_of(after: dict) -> torch.Tensor:
    return after["blocks.1.ffn.experts.w1_EdF"]


def test_noise_is_relative_seeded_and_leaves_random_state_alone(dense, copies, weights) -> None:
    before, target = weights(dense), copies()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    plain, noisy, again, other = (
        to_sparse(dense, before, target, noise=noise, seed=seed)[1]
        for noise, seed in ((0.0, 1), (0.2, 1), (0.2, 1), (0.2, 2))
    )
    assert torch.equal(torch.rand(3), expected)
    for name in ("w1_EdF", "w2_EFd"):
        clean, moved = (w[f"blocks.1.ffn.experts.{name}"] for w in (plain, noisy))
        assert all(torch.equal(clean[0], clean[e]) for e in range(4))
        assert ((moved - clean).std() / clean.std() - 0.2).abs() < 0.01
        assert (moved[0] - moved[1]).abs().max() > 0.1 * clean.std()
    assert all(torch.equal(noisy[k], again[k]) for k in noisy)
    assert not torch.equal(experts_of(noisy), experts_of(other))
    gate = "blocks.1.ffn.router.gate.weight"
    assert torch.equal(plain[gate], noisy[gate]) and not torch.equal(plain[gate], other[gate])


def test_the_result_takes_a_step(dense, copies, weights, stream) -> None:
    """Copies stay no copies: their routers send them different tokens."""
    target, after = to_sparse(dense, weights(dense), copies())
    encoder = build_encoder(target).double()
    encoder.load_state_dict(after)
    encoder(stream("pairs", dtype=torch.float64)).streams[0].image_BND.square().sum().backward()
    grad = encoder.blocks[1].ffn.experts.w1_EdF.grad
    assert (grad[0] - grad[1]).abs().max() > 0.1 * grad.abs().max()
    assert encoder.blocks[1].ffn.router.gate.weight.grad.isfinite().all()


BAD = [
    ({"ffn": "dense"}, "ffn=dense is what the model has"),
    ({"ffn": "moe", "depth": 4}, "depth: upcycling changes ffn and moe only"),
    ({"sub_ln": False}, "sub_ln: upcycling"),
    ({"moe": {"parity": "flops"}}, "moe.hidden_dim=128"),
    (
        {"moe": {"parity": "none", "hidden_dim": 64}},
        "parity=none an expert would be 64 wide, but a copy of the dense FFN is 128",
    ),
    ({"moe": {"activation": "swiglu"}}, "moe.activation=swiglu.*use gelu"),
    ({"moe": {"expert_bias": False}}, "moe.expert_bias=False.*use True"),
    ({"ffn": "mh_moe", "moe": {"heads": 1, "projection_layers": 2}}, "moe.projection_layers=2.*at most one layer"),
    ({"ffn": "mh_moe", "moe": {"heads": 1, "inner_residual": True}}, "inner_residual=True.*no residual"),
    ({"ffn": "mh_moe", "moe": {"heads": 4, "projection_layers": 0}}, "moe.projection_layers=0.*use 1"),
    ({"ffn": "mh_moe", "moe": {"heads": 4, "projection_layers": 2}}, "moe.projection_layers=2.*use 1"),
    ({"ffn": "mh_moe", "moe": {"heads": 8}}, "moe.num_experts=4 is less than moe.heads=8"),
    ({"ffn": "mh_moe", "moe": {"heads": 8, "num_experts": 8}}, "moe.heads=8 leaves sub-tokens of 4"),
    ({"ffn": "mh_moe", "moe": {"router": "xmoe", "router_dim": 3}}, "moe.router_dim=3 is less than moe.heads=4"),
]


@pytest.mark.parametrize(("changes", "told"), BAD, ids=[told for _, told in BAD])
def test_what_cannot_be_is_refused(config, dense, copies, weights, changes: dict, told: str) -> None:
    moe = {"num_experts": 4, "parity": "none", "hidden_dim": 128, **changes.get("moe", {})}
    if moe["parity"] == "flops":
        moe["hidden_dim"] = None
    target = config(**{"ffn": "moe", **changes, "moe": MoEConfig(**moe)})
    with pytest.raises(ValueError, match=told):
        to_sparse(dense, weights(dense), target)


def test_a_sparse_model_and_negative_noise_are_refused(dense, copies, weights) -> None:
    with pytest.raises(ValueError, match="ffn=moe already"):
        to_sparse(copies(), weights(copies()), copies(top_k=1))
    with pytest.raises(ValueError, match="noise=-1"):
        to_sparse(dense, weights(dense), copies(), noise=-1)


def test_weights_of_another_model_are_refused(dense, copies, weights) -> None:
    before = weights(dense)
    with pytest.raises(ValueError, match=r"block 1 do not fit .*fc1\.weight"):
        to_sparse(dense, before | {"blocks.1.ffn.fc1.weight": torch.zeros(3, 32)}, copies())
    with pytest.raises(ValueError, match="no FFN of block 1"):
        to_sparse(dense, {k: v for k, v in before.items() if "ffn." not in k}, copies())
