"""Truth: one modality's weights move only that modality's states, where nothing attends across; the layers' counts."""

import pytest
import torch

from mm_mhmoe.config import MoEConfig
from mm_mhmoe.models.builder import build_encoder
from mm_mhmoe.nn import FeedForward, MoE, MultiHeadMoE, Multiway, MultiwayMoE
from mm_mhmoe.objectives.sparse import auxiliary_losses


def build(config, **changes):
    torch.manual_seed(0)
    return build_encoder(config(multiway=True, **changes)).double().eval()


@pytest.mark.parametrize("ffn", ["dense", "moe", "mh_moe"])
@pytest.mark.parametrize("pools", ["modality", "shared"])
def test_streams_in_one_call_are_each_alone(config, stream, ffn, pools) -> None:
    encoder = build(config, ffn=ffn, moe=MoEConfig(num_experts=4, pools=pools))
    streams = [stream(kind, dtype=torch.float64, seed=n) for n, kind in enumerate(["texts", "pairs", "images"])]
    together = encoder(*streams)
    for alone, part in zip(streams, together.streams, strict=True):
        (single,) = encoder(alone).streams
        for ours, theirs in zip(part, single, strict=True):
            assert (ours is None) == (theirs is None)
        if alone.images is not None:
            torch.testing.assert_close(part.image_BND, single.image_BND, rtol=0, atol=1e-9)
        if alone.texts is not None:
            valid = alone.texts.valid_BL
            torch.testing.assert_close(part.text_BLD[valid], single.text_BLD[valid], rtol=0, atol=1e-9)


@pytest.mark.parametrize("ffn", ["dense", "mh_moe"])
def test_weights_belong_to_a_modality(config, stream, ffn) -> None:
    encoder = build(config, ffn=ffn)
    streams = [stream(kind, dtype=torch.float64) for kind in ("images", "texts")]
    states = encoder(*streams).streams
    (states[0].image_BND.square().sum()).backward()
    for name, parameter in encoder.named_parameters():
        of_texts = ".text." in name or name.startswith("text.")
        moved = parameter.grad is not None and bool(parameter.grad.any())
        if of_texts:
            assert not moved, name
        elif "blocks" in name and "router" not in name and "bias" not in name:
            assert moved, name


@pytest.mark.parametrize("ffn", ["moe", "mh_moe"])
def test_which_layers_have_two(config, ffn) -> None:
    single = {"moe": MoE, "mh_moe": MultiHeadMoE}[ffn]
    own, shared = (build(config, ffn=ffn, moe=MoEConfig(num_experts=4, pools=p)) for p in ("modality", "shared"))
    assert [type(block.ffn) for block in own.blocks] == [Multiway, MultiwayMoE]
    assert [type(block.ffn) for block in shared.blocks] == [Multiway, single]
    assert isinstance(own.blocks[0].ffn.text, FeedForward) and isinstance(own.blocks[1].ffn.text, single)
    assert not torch.equal(own.blocks[0].ffn.image.fc1.weight, own.blocks[0].ffn.text.fc1.weight)


@pytest.mark.parametrize("ffn", ["dense", "mh_moe"])
def test_pairs_have_ffns_of_their_own_in_the_last_layers(config, stream, ffn) -> None:
    """A pair's loss moves them, and not the two others there; with the others alone nothing moves them."""
    encoder = build(config, ffn=ffn, vl_layers=1, moe=MoEConfig(num_experts=4))
    assert encoder.blocks[0].ffn.pair is None and encoder.blocks[1].ffn.pair is not None

    def moved(*kinds: str) -> set[str]:
        encoder.zero_grad()
        states = encoder(*(stream(kind, dtype=torch.float64, seed=n) for n, kind in enumerate(kinds))).streams
        sum(part.square().sum() for both in states for part in both if part is not None).backward()
        grads = {name: p.grad for name, p in encoder.named_parameters() if name.startswith("blocks.1.ffn.")}
        return {name.split(".")[3] for name, grad in grads.items() if grad is not None and grad.any()}

    assert moved("pairs") == {"pair"}
    assert moved("images", "texts") == {"image", "text"}
    assert moved("texts", "pairs") == {"text", "pair"}


def test_a_checkpoint_with_the_same_ffn_in_all_ways_does_not_care_which(config, stream) -> None:
    plain, with_pairs = build(config, ffn="dense"), build(config, ffn="dense", vl_layers=2)
    weights = plain.state_dict()
    for name in list(weights):
        if ".ffn.image." in name:
            weights[name.replace(".image.", ".text.")] = weights[name]
            weights[name.replace(".image.", ".pair.")] = weights[name]
    with_pairs.load_state_dict(weights)
    plain.load_state_dict({name: weights[name] for name in plain.state_dict()})
    batch = [stream("pairs", dtype=torch.float64), stream("images", dtype=torch.float64)]
    for ours, theirs in zip(with_pairs(*batch).streams, plain(*batch).streams, strict=True):
        torch.testing.assert_close(ours.image_BND, theirs.image_BND)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"vl_layers": 3}, "vl_layers=3 must lie between 0 and encoder.depth=2"),
        ({"vl_layers": 1, "multiway": False}, "vl_layers=1 needs encoder.multiway=true"),
        ({"vl_layers": 1, "moe": MoEConfig(num_experts=4, pools="shared")}, "needs moe.pools=modality"),
    ],
)
def test_where_pairs_cannot_have_their_own(config, changes, told) -> None:
    with pytest.raises(ValueError, match=told):
        config(**{"multiway": True, **changes})


def test_balance_is_the_mean_over_pools(config, stream) -> None:
    """Two pools of one layer, each in balance, give 1: over both pools' experts together it would be more."""
    moe = MoEConfig(num_experts=4, top_k=4)
    encoder = build(config, ffn="moe", moe=moe)
    output = encoder(stream("images", dtype=torch.float64), stream("texts", dtype=torch.float64, padded=False))
    assert len(output.routing) == 1 and len(output.routing[0].routing.pools) == 2
    torch.testing.assert_close(auxiliary_losses(output.routing, moe)["balance"].item(), 1.0)
    detached = output.routing_only().routing[0].routing
    assert not any(r.logits_SE.requires_grad for r in (detached, *detached.pools))


@pytest.mark.parametrize("pools", ["modality", "shared"])
def test_a_bias_for_balance_has_one_router(config, pools) -> None:
    moe = MoEConfig(num_experts=4, router="sigmoid_bias", pools=pools)
    if pools == "shared":
        assert config(multiway=True, moe=moe).expert_pools == 1
    else:
        with pytest.raises(ValueError, match=r"moe.router=sigmoid_bias.*moe.pools=shared"):
            config(multiway=True, moe=moe)
