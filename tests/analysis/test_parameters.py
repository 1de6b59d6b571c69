"""Truth: the parameters of the real modules, part by part; the tables of arXiv 2404.15045 (11, in its appendix C)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mm_mhmoe.analysis.parameters import Parameters, count_parameters
from mm_mhmoe.config import EncoderConfig, MoEConfig, TextConfig
from mm_mhmoe.models.builder import build_encoder
from mm_mhmoe.models.tasks import PretrainModel


def part_of(name: str) -> str:
    """The part that a parameter of a PretrainModel belongs to."""
    if not name.startswith("encoder."):
        return "task_heads"
    if name.startswith(("encoder.image.", "encoder.text.")):
        return "embeddings"
    for part in ("router", "experts", "shared"):
        if f".{part}." in name:
            return "shared_experts" if part == "shared" else part
    if "norm" in name or "_scale." in name:
        return "norms"
    if "relative_positions." in name:
        return "attention"
    if ".head." in name or ".merge." in name:
        return "head_and_merge"
    return "attention" if ".attention." in name else "dense_ffn"


def real(module) -> dict[str, int]:
    counts = {part: 0 for part in Parameters.__dataclass_fields__ if part != "unused_experts"}
    for name, parameter in module.named_parameters():
        counts[part_of(name)] += parameter.numel()
    return counts


CASES = [
    {"every": 2},
    {"every": 1, "expert_bias": False, "activation": "swiglu"},
    {"every": 1, "shared_experts": 2, "top_k": 1},
    {"every": 3, "projection_layers": 0, "parity": "params"},
    {
        "every": 1,
        "projection_layers": 2,
        "parity": "none",
        "hidden_dim": 11,
        "shared_experts": 1,
        "activation": "swiglu",
    },
    *({"every": 1, "router": r, "router_dim": 5} for r in ("xmoe", "xmoe_released", "sigmoid_bias", "expert_choice")),
]


@pytest.mark.parametrize("ffn", ["dense", "moe", "mh_moe"])
@pytest.mark.parametrize("sub_ln", [True, False])
@pytest.mark.parametrize("options", CASES, ids=str)
def test_every_part_is_that_of_the_real_model(config, ffn, sub_ln, options) -> None:
    made = config(ffn=ffn, depth=3, sub_ln=sub_ln, moe=MoEConfig(**{"num_experts": 8, **options}))
    model = PretrainModel(made, 24)
    counted = count_parameters(made, 24)
    assert counted.by_part() == real(model)
    assert counted.total == sum(p.numel() for p in model.parameters())
    assert count_parameters(made).total == sum(p.numel() for p in build_encoder(made).parameters())


@pytest.mark.parametrize("ffn", ["dense", "moe", "mh_moe"])
@pytest.mark.parametrize("pools", ["modality", "shared"])
def test_multiway_has_the_parts_twice(config, ffn, pools) -> None:
    moe = MoEConfig(num_experts=8, shared_experts=1, pools=pools)
    made = config(ffn=ffn, depth=3, multiway=True, moe=moe)
    made = replace(made, text=replace(made.text, positions=20))
    counted = count_parameters(made, 24)
    assert counted.by_part() == real(PretrainModel(made, 24))
    plain = count_parameters(replace(made, multiway=False), 24)
    assert counted.attention == 2 * plain.attention and counted.norms - plain.norms == plain.norms
    twice = 2 if pools == "modality" else 1
    assert counted.experts == twice * plain.experts and counted.router == twice * plain.router
    if ffn == "mh_moe":  # 4 heads x top-2 reach all 8 experts of one pool
        assert counted.unused_experts == (twice - 1) * plain.experts


@pytest.mark.parametrize("ffn", ["dense", "moe", "mh_moe"])
@pytest.mark.parametrize("vl_layers", [1, 3])
def test_pairs_have_a_third_ffn_in_the_last_layers(config, ffn, vl_layers) -> None:
    made = config(ffn=ffn, depth=4, multiway=True, vl_layers=vl_layers, moe=MoEConfig(num_experts=8))
    counted = count_parameters(made, 24)
    assert counted.by_part() == real(PretrainModel(made, 24))
    plain = count_parameters(replace(made, vl_layers=0))
    sparse = {1: 1, 3: 2}[vl_layers] if ffn != "dense" else 0  # blocks 2 and 4 are sparse
    assert counted.experts == plain.experts * (4 + sparse) // 4
    if ffn == "moe":  # top-2 of 8, in one of the pools of two layers
        assert counted.active == counted.total - counted.experts + plain.experts // 4 * 2 // 4


@pytest.mark.parametrize("multiway", [False, True])
@pytest.mark.parametrize("kind", ["layer", "shared"])
def test_relative_positions_and_layer_scale(config, kind: str, multiway: bool) -> None:
    made = config(ffn="mh_moe", multiway=multiway, relative_positions=kind, image_positions=False, layer_scale=0.1)
    assert count_parameters(made, 24).by_part() == real(PretrainModel(made, 24))


def test_active_leaves_out_the_experts_that_a_token_cannot_reach(config) -> None:
    for ffn, used in (("moe", 2), ("mh_moe", 8)):
        made = config(ffn=ffn, moe=MoEConfig(num_experts=16, top_k=2, heads=4, every=1))
        counted = count_parameters(made)
        assert counted.total - counted.active == counted.experts * (16 - used) // 16
    dense = count_parameters(config(ffn="dense"))
    assert dense.active == dense.total and dense.experts == 0


# Parameters in millions: experts -> X-MoE's, MH-MoE's sum. English language models and masked multi-modal ones.
ENGLISH = {8: (361, 354), 16: (588, 571), 32: (1042, 1039), 64: (1949, 1938), 128: (3765, 3765), 256: (7397, 7371)}
MULTI_MODAL = {8: (514, 505), 32: (1228, 1209)}


def paper(ffn: str, experts: int, **text) -> EncoderConfig:
    """12 layers of 768, FFN 3072, every second sparse, top-1, X-MoE's router (16, or 16 / h for MH-MoE)."""
    moe = MoEConfig(
        num_experts=experts, top_k=1, parity="params", router="xmoe", router_dim=4 if ffn == "mh_moe" else 16
    )
    return EncoderConfig(ffn=ffn, moe=moe, text=TextConfig(**text))


def language_model(ffn: str, experts: int) -> tuple[float, float]:
    """Millions outside the experts, and in them.

    Read in the paper: size, frequency, "GPT-4 vocabulary" (tiktoken's cl100k: 100,277). Assumed: one table for input
    and output, no learned positions, biases and sub-LN everywhere.
    """
    counted = count_parameters(paper(ffn, experts))
    blocks = counted.attention + counted.dense_ffn + counted.router + counted.head_and_merge + counted.norms
    return (100_277 * 768 + blocks) / 1e6, counted.experts / 1e6


@pytest.mark.parametrize("experts", ENGLISH)
def test_english_language_models_of_the_paper(experts: int) -> None:
    """X-MoE to a million (the paper's rounding). MH-MoE: the paper's experts are a little smaller than equal parameters
    would allow (it claims "consistent with or lower than"), so within 3.5 %."""
    outside, inside = language_model("moe", experts)
    assert outside == pytest.approx(134, abs=1)
    assert outside + inside == pytest.approx(ENGLISH[experts][0], abs=1)
    outside, inside = language_model("mh_moe", experts)
    assert outside == pytest.approx(141, abs=1)
    assert outside + inside == pytest.approx(ENGLISH[experts][1], rel=0.035)
    assert outside + inside > ENGLISH[experts][1]
    assert sum(language_model("dense", experts)) == pytest.approx(162, abs=1)


@pytest.mark.parametrize(("experts", "share"), [(32, 63 / 64), (64, 63 / 64), (128, 127 / 128)])
def test_english_mh_moe_with_a_smaller_hidden_size(experts: int, share: float) -> None:
    """With hidden 63/64 (or 127/128) of 4 x 3072, where 63/64 is the paper's smallest, its sums are met."""
    solved = paper("mh_moe", experts)
    moe = replace(solved.moe, parity="none", hidden_dim=round(share * 4 * 3072))
    counted = count_parameters(replace(solved, moe=moe))
    outside, _ = language_model("mh_moe", experts)
    assert outside + counted.experts / 1e6 == pytest.approx(ENGLISH[experts][1], abs=1)


def multi_modal(ffn: str, experts: int) -> float:
    """Millions of a BEiT-3 base, Multiway: attention, LayerNorms and FFN twice, for pictures and words.

    Assumed: 1,024 text positions; untied heads over 64,010 pieces and 8,192 codes; and, because the paper's two sums
    lie on a line that meets zero experts at 276 million, its dense model: experts come on top of the dense FFNs.
    """
    counted = count_parameters(paper(ffn, experts, max_length=1024))
    dense = count_parameters(paper("dense", experts, max_length=1024))
    heads = (768 + 1) * (64_010 + 8_192)
    base = dense.embeddings + 2 * (dense.attention + dense.norms + dense.dense_ffn) + heads
    return (base + counted.router + counted.head_and_merge + counted.experts) / 1e6


@pytest.mark.parametrize("experts", MULTI_MODAL)
def test_multi_modal_models_of_the_paper(experts: int) -> None:
    """Within 4 %: the paper's sums grow by 29.75 million an expert (X-MoE), six layers of 4.73 million by 28.4.
    What the other 1.4 million are, the paper does not tell."""
    assert multi_modal("dense", experts) == pytest.approx(277, abs=1)
    assert multi_modal("moe", experts) == pytest.approx(MULTI_MODAL[experts][0], rel=0.04)
    assert multi_modal("mh_moe", experts) == pytest.approx(MULTI_MODAL[experts][1], rel=0.04)


def test_heads_of_pairs(config) -> None:
    made = config()
    counted = count_parameters(made, 24, embed_dim=6)
    assert counted.by_part() == real(PretrainModel(made, 24, embed_dim=6))
    assert counted.task_heads > count_parameters(made, 24).task_heads
