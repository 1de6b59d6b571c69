"""Truth: loops over tokens, sub-tokens and choices."""

from dataclasses import fields, replace

import pytest
import torch

from mm_mhmoe.analysis.routing_sums import distinct_experts, first_choices, routing_sums
from mm_mhmoe.analysis.token_groups import modality_groups
from mm_mhmoe.config import MoEConfig
from mm_mhmoe.models.builder import build_encoder
from mm_mhmoe.models.encoder import EncoderOutput, LayerRouting
from mm_mhmoe.nn import Routing

LAYERS = {
    "plain": {"ffn": "moe"},
    "multi-head": {"ffn": "mh_moe"},
    "capacity": {"ffn": "mh_moe", "capacity_factor": 0.5},
    "random second": {"ffn": "mh_moe", "second_policy": "random"},
    "expert choice": {"ffn": "mh_moe", "router": "expert_choice", "top_k": 1},
    "sigmoid": {"ffn": "mh_moe", "router": "sigmoid_bias"},
}


def brute_force(output: EncoderOutput, routing: Routing, group_TG: torch.Tensor) -> dict[str, list]:
    tokens, groups = group_TG.shape
    experts = routing.num_experts
    heads = len(routing.experts_SK) // tokens
    found = {name: [0.0] * groups for name in ("tokens_G", "made_G", "alone_G", "distinct_G", "reached_G")}
    found["computed_GE"] = [[0.0] * experts for _ in range(groups)]
    found["first_GHE"] = [[[0.0] * experts for _ in range(heads)] for _ in range(groups)]
    for token in range(tokens):
        for group in range(groups):
            if not (output.valid_T[token] and group_TG[token, group]):
                continue
            found["tokens_G"][group] += 1
            firsts, reached = set(), set()
            for head in range(heads):
                row = token * heads + head
                weights = routing.weights_SK[row].tolist()
                first = int(routing.experts_SK[row][weights.index(max(weights))])
                firsts.add(first)
                found["first_GHE"][group][head][first] += 1
                computed = 0
                for choice, expert in enumerate(routing.experts_SK[row].tolist()):
                    found["made_G"][group] += 1
                    if routing.sent_SK is None or routing.sent_SK[row, choice]:
                        found["computed_GE"][group][expert] += 1
                        reached.add(expert)
                        computed += 1
                found["alone_G"][group] += computed == 0
            found["distinct_G"][group] += len(firsts)
            found["reached_G"][group] += len(reached)
    return found


@pytest.mark.parametrize("name", LAYERS)
def test_sums_against_a_loop(config, stream, name: str) -> None:
    torch.manual_seed(0)
    options = dict(LAYERS[name])
    ffn = options.pop("ffn")
    encoder = build_encoder(
        config(ffn=ffn, moe=MoEConfig(**{"num_experts": 5, "top_k": 2, "heads": 4, "every": 1, **options}))
    )
    output = encoder.train()(stream("pairs"), stream("texts", seed=1))
    group_TG = torch.cat([modality_groups(output), torch.rand(len(output.valid_T), 1) < 0.5], dim=1)
    group_TG[~output.valid_T] = True  # padding that claims to belong
    found = routing_sums(output, group_TG)
    assert list(found) == [0, 1]
    for layer, routing in output.routing:
        expected = brute_force(output, routing, group_TG)
        for field in fields(found[layer]):
            assert getattr(found[layer], field.name).tolist() == expected[field.name], field.name
    if name in ("capacity", "random second"):
        assert any(sums.computed_GE.sum() < sums.made_G.sum() for sums in found.values())  # something was dropped
    if name in ("capacity", "expert choice"):
        assert any(sums.alone_G.sum() > 0 for sums in found.values())


@pytest.mark.parametrize("router", ["top_k", "expert_choice"])
def test_pools_against_a_loop_over_each_of_them(config, stream, router: str) -> None:
    """Pictures, texts and, in the last layer, pairs have experts of their own. A pool's own routing is of its tokens
    alone, in their order."""
    torch.manual_seed(0)
    moe = MoEConfig(num_experts=5, top_k=2, heads=4, every=1, router=router)
    encoder = build_encoder(config(moe=moe, multiway=True, vl_layers=1)).eval()
    output = encoder(stream("images"), stream("pairs"), stream("texts", seed=1))
    found = routing_sums(output, modality_groups(output))
    assert list(found) == [(0, "image"), (0, "text"), (1, "image"), (1, "text"), (1, "pair")]
    is_pair_T = torch.zeros_like(output.is_text_T)
    is_pair_T[3 * 17 : 3 * 17 + 3 * 25] = True
    for (layer, way), sums in found.items():
        pool = output.routing[layer].routing.pools[("image", "text", "pair").index(way)]
        inside_T = {"image": ~output.is_text_T, "text": output.is_text_T}.get(way, is_pair_T)
        inside_T = inside_T & ~is_pair_T if layer == 1 and way != "pair" else inside_T
        own = output._replace(valid_T=output.valid_T[inside_T])
        expected = brute_force(own, pool, modality_groups(output)[inside_T])
        for field in fields(sums):
            assert getattr(sums, field.name).tolist() == expected[field.name], (layer, way, field.name)


def test_a_pool_without_tokens_has_sums_of_zero(config, stream) -> None:
    moe = MoEConfig(num_experts=5, top_k=2, heads=4, every=1)
    output = build_encoder(config(moe=moe, multiway=True, vl_layers=1)).eval()(stream("images"))
    found = routing_sums(output, modality_groups(output))
    assert found[1, "image"].tokens_G.tolist() == [3 * 17, 0]
    for place in ((0, "text"), (1, "text"), (1, "pair")):
        assert all(not getattr(found[place], field.name).any() for field in fields(found[place]))


def test_what_stands_in_padding_changes_nothing(config, stream) -> None:
    torch.manual_seed(0)
    output = build_encoder(config())(stream("pairs"))
    (layer,) = output.routing
    routing = layer.routing
    other_SK = torch.where(routing.valid_S.unsqueeze(1), routing.experts_SK, (routing.experts_SK + 1) % 4)
    assert not torch.equal(other_SK, routing.experts_SK)
    changed = output._replace(routing=(LayerRouting(layer.layer, replace(routing, experts_SK=other_SK)),))
    for field, ours, theirs in zip(
        fields(routing_sums(output, modality_groups(output))[1]),
        vars(routing_sums(output, modality_groups(output))[1]).values(),
        vars(routing_sums(changed, modality_groups(output))[1]).values(),
        strict=True,
    ):
        assert torch.equal(ours, theirs), field.name


def test_sums_add_up_over_batches(config, stream) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(config()).eval()
    both = encoder(stream("pairs", padded=False), stream("pairs", seed=1, padded=False))
    parts = [encoder(stream("pairs", seed=seed, padded=False)) for seed in (0, 1)]
    whole = routing_sums(both, modality_groups(both))[1].double()
    first, second = (routing_sums(part, modality_groups(part))[1].double() for part in parts)
    for field in fields(whole):
        assert getattr(first + second, field.name).dtype == torch.float64
        assert torch.equal(getattr(first + second, field.name), getattr(whole, field.name))


def test_a_dense_encoder_has_no_sums(config, stream) -> None:
    output = build_encoder(config(ffn="dense"))(stream())
    assert routing_sums(output, modality_groups(output)) == {}


def test_first_choice_is_the_heaviest_one() -> None:
    experts = torch.tensor([[0, 1], [2, 3], [1, 0], [3, 2]])
    weights = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.5, 0.4], [0.3, 0.7]])
    prob = torch.full((4, 4), 0.25)
    layer = LayerRouting(0, Routing(prob.log(), prob, experts, weights))
    output = EncoderOutput((), (layer,), torch.zeros(2, dtype=torch.bool), torch.ones(2, dtype=torch.bool))
    assert first_choices(output, layer).tolist() == [[0, 3], [1, 2]]


def test_nobody_is_no_expert() -> None:
    assert distinct_experts(torch.tensor([[0, 0, 2], [3, 3, 3], [1, 3, 1]]), 3).tolist() == [2, 0, 1]
