"""Truth: BEiT-3's published sizes; multiply-accumulates counted on the built layers; the messages' contract."""

import json
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mm_mhmoe.config import PRESETS, EncoderConfig, MoEConfig, TextConfig, VisionConfig, preset
from mm_mhmoe.models.builder import build_ffn


@pytest.mark.parametrize(
    ("name", "depth", "dim", "heads", "ffn_dim"),
    [("base", 12, 768, 12, 3072), ("large", 24, 1024, 16, 4096)],  # BEiT-3's released base and large
)
def test_presets_are_beit3s(name: str, depth: int, dim: int, heads: int, ffn_dim: int) -> None:
    found = preset(name)
    assert (found.depth, found.dim, found.num_heads, found.ffn_dim) == (depth, dim, heads, ffn_dim)
    assert (found.vision.image_size, found.vision.patch_size, found.vision.num_patches) == (224, 16, 196)
    assert (found.text.vocab_size, found.text.max_length) == (64010, 64)


def test_preset_takes_changes_and_names_the_known_ones() -> None:
    assert preset("tiny", depth=4).depth == 4
    with pytest.raises(ValueError, match=r"'huge'.*tiny, small, base, large"):
        preset("huge")


def test_grid() -> None:
    vision = VisionConfig(image_size=96, patch_size=16)
    assert (vision.grid, vision.num_patches) == (6, 36)


def _flops(config: EncoderConfig, layer: int) -> int:
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        build_ffn(config, layer)(torch.randn(10, config.dim))
    return counter.get_total_flops()


@pytest.mark.parametrize(("ffn", "top_k"), [("moe", 1), ("moe", 2), ("mh_moe", 1), ("mh_moe", 2)])
def test_parity_of_flops_holds_on_the_built_layers(config, ffn: str, top_k: int) -> None:
    """The router aside (10 tokens x 2 D E FLOPs), a sparse layer costs what the dense one costs."""
    sparse = config(ffn=ffn, moe=MoEConfig(num_experts=4, top_k=top_k, heads=4, every=2, expert_bias=False))
    dense = _flops(config(ffn="dense"), 1)
    assert dense == 10 * 2 * 2 * 32 * 128
    assert _flops(sparse, 1) - 10 * 2 * 32 * 4 == dense


def test_parity_rounds_down_to_a_whole_hidden_size(config) -> None:
    moe = MoEConfig(num_experts=8, top_k=3)
    assert config(ffn="moe", moe=moe).expert_hidden_dim == 42  # 128 / 3 = 42.7
    assert config(ffn="mh_moe", moe=moe).expert_hidden_dim == 32  # (128 - 32) / 3


@pytest.mark.parametrize(("ffn", "heads"), [("moe", 4), ("mh_moe", 1), ("mh_moe", 2), ("mh_moe", 4)])
@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
@pytest.mark.parametrize("experts", [3, 8])
def test_parity_of_params_holds_on_the_built_layers(config, ffn: str, heads: int, activation, experts: int) -> None:
    """Matrices as many as those of a built MoE of dense-sized GELU experts; one hidden unit more or less is no nearer.

    Every expert has a matrix column and row for each hidden unit: experts x matrices x width parameters.
    """

    def matrices(layer) -> int:
        left_out = ("router", "norm", "bias", ".b1_", ".b2_")
        return sum(p.numel() for n, p in layer.named_parameters() if not any(word in n for word in left_out))

    options = {"num_experts": experts, "top_k": 2, "every": 2}
    plain = config(ffn="moe", moe=MoEConfig(**options, parity="none", hidden_dim=128))
    sparse = config(ffn=ffn, moe=MoEConfig(**options, heads=heads, activation=activation, parity="params"))
    width = 32 if ffn == "moe" else 32 // heads
    unit = experts * width * (2 if activation == "gelu" else 3)
    assert abs(matrices(build_ffn(sparse, 1)) - matrices(build_ffn(plain, 1))) <= unit / 2


def test_parity_of_params_in_numbers(config) -> None:
    """A plain MoE has the dense FFN's hidden size; MH-MoE H (F - D / E), as in the docstring: 4 (128 - 32 / 8)."""
    moe = MoEConfig(num_experts=8, top_k=1, parity="params")
    assert config(ffn="moe", moe=moe).expert_hidden_dim == 128
    assert config(ffn="mh_moe", moe=moe).expert_hidden_dim == 496


def test_parity_none_takes_the_size_as_given(config) -> None:
    moe = MoEConfig(parity="none", hidden_dim=17)
    assert config(moe=moe).expert_hidden_dim == 17


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: VisionConfig(image_size=100, patch_size=16), ["vision.image_size=100", "vision.patch_size=16"]),
        (lambda: VisionConfig(image_size=16, patch_size=0), ["vision.patch_size=0"]),
        (lambda: VisionConfig(pixel_std=(0.5, 0.0, 0.5)), ["vision.pixel_std=(0.5, 0.0, 0.5)", "positive"]),
        (lambda: TextConfig(max_length=2), ["text.max_length=2"]),
        (lambda: TextConfig(vocab_size=4), ["text.vocab_size=4"]),
        (lambda: TextConfig(pad_id=0), ["(0, 0, 2, 3, 4)", "differ"]),
        (lambda: MoEConfig(num_experts=4, top_k=5), ["moe.top_k=5", "moe.num_experts=4"]),
        (lambda: MoEConfig(top_k=0), ["moe.top_k=0"]),
        (lambda: MoEConfig(heads=0), ["moe.heads=0"]),
        (lambda: MoEConfig(every=0), ["moe.every=0"]),
        (lambda: MoEConfig(router="top-k"), ["moe.router='top-k'", "xmoe_released"]),  # type: ignore[arg-type]
        (lambda: MoEConfig(drop_policy="last"), ["moe.drop_policy='last'", "priority"]),  # type: ignore[arg-type]
        (lambda: MoEConfig(second_policy="x"), ["moe.second_policy='x'", "random"]),  # type: ignore[arg-type]
        (lambda: MoEConfig(capacity_factor=0.0), ["moe.capacity_factor=0.0", "positive"]),
        (lambda: MoEConfig(projection_layers=-1), ["moe.projection_layers=-1"]),
        (lambda: MoEConfig(shared_experts=-1), ["moe.shared_experts=-1"]),
        (lambda: MoEConfig(router_dim=0), ["moe.router_dim=0"]),
        (lambda: MoEConfig(router="xmoe", router_jitter=0.1), ["moe.router_jitter", "moe.router=top_k", "xmoe"]),
        (lambda: MoEConfig(xmoe_gate="tanh"), ["moe.xmoe_gate='tanh'", "sigmoid"]),  # type: ignore[arg-type]
        (lambda: MoEConfig(xmoe_gate="sigmoid"), ["moe.xmoe_gate=sigmoid", "moe.router=xmoe", "top_k"]),
        (
            lambda: MoEConfig(router="xmoe_released", xmoe_gate="sigmoid"),
            ["moe.xmoe_gate=sigmoid", "moe.router=xmoe", "xmoe_released"],
        ),
        (lambda: MoEConfig(balance_scope="all"), ["moe.balance_scope='all'", "global"]),  # type: ignore[arg-type]
        (lambda: MoEConfig(balance_choices="2"), ["moe.balance_choices='2'", "first"]),  # type: ignore[arg-type]
        (
            lambda: MoEConfig(router="expert_choice", balance_choices="first"),
            ["moe.balance_choices=first", "moe.router=expert_choice", "use all"],
        ),
        (
            lambda: MoEConfig(router="sigmoid_bias", normalize_weights=False),
            ["moe.normalize_weights=false", "moe.router=sigmoid_bias"],
        ),
        (lambda: MoEConfig(router="expert_choice", capacity_factor=1.0), ["moe.capacity_factor=1.0", "leave it out"]),
        (lambda: MoEConfig(parity="equal"), ["moe.parity='equal'", "flops, params, none"]),  # type: ignore[arg-type]
        (lambda: MoEConfig(parity="params", hidden_dim=8), ["moe.hidden_dim=8", "moe.parity=params", "parity=none"]),
        (lambda: MoEConfig(parity="none"), ["moe.parity=none", "moe.hidden_dim"]),
        (lambda: MoEConfig(hidden_dim=8), ["moe.hidden_dim=8", "parity=none"]),
        (lambda: EncoderConfig(ffn="sparse"), ["encoder.ffn='sparse'", "mh_moe"]),  # type: ignore[arg-type]
        (lambda: EncoderConfig(dim=770), ["encoder.dim=770", "encoder.num_heads=12"]),
        (lambda: EncoderConfig(depth=0), ["encoder.depth=0"]),
        (lambda: EncoderConfig(drop_path=1.0), ["encoder.drop_path=1.0"]),
        (lambda: EncoderConfig(moe=MoEConfig(heads=5)), ["encoder.dim=768", "moe.heads=5"]),
        (lambda: EncoderConfig(depth=2, moe=MoEConfig(every=3)), ["moe.every=3", "encoder.depth=2"]),
        (lambda: EncoderConfig(ffn_dim=768), ["moe.parity=flops", "ffn_dim=768", "dim=768", "top_k=2"]),
        (
            lambda: EncoderConfig(ffn_dim=96, moe=MoEConfig(num_experts=8, projection_layers=1, parity="params")),
            ["moe.parity=params", "ffn_dim=96", "moe.projection_layers"],
        ),
    ],
)
def test_errors_name_field_and_value(make, parts: list[str]) -> None:
    with pytest.raises(ValueError) as error:
        make()
    for part in parts:
        assert part in str(error.value)


def test_a_dense_encoder_does_not_look_at_the_sparse_settings() -> None:
    assert EncoderConfig(ffn="dense", depth=2, ffn_dim=768, moe=MoEConfig(every=3, heads=5)).is_sparse(1) is False


@pytest.mark.parametrize("every", [1, 2, 3])
def test_every_nth_layer_is_sparse(config, every: int) -> None:
    moe = MoEConfig(num_experts=4, every=every)
    sparse = config(depth=6, moe=moe)
    assert [sparse.is_sparse(layer) for layer in range(6)] == [(n % every) == 0 for n in range(1, 7)]


@pytest.mark.parametrize("name", PRESETS)
def test_dict_round_trip_through_json(name: str) -> None:
    values = json.loads(json.dumps(PRESETS[name].to_dict()))
    assert EncoderConfig.from_dict(values) == PRESETS[name]
    assert EncoderConfig.from_dict({**values, "depth": 3}) == replace(PRESETS[name], depth=3)
    later = ("multiway", "vl_layers", "image_positions", "relative_positions", "layer_scale")
    assert EncoderConfig.from_dict({k: v for k, v in values.items() if k not in later}) == PRESETS[name]


@pytest.mark.parametrize(("recompute", "keep"), [(True, "tokens"), (False, "hidden")])
def test_the_option_that_keep_replaced_is_read(recompute, keep):
    values = PRESETS["tiny"].to_dict()
    moe = {name: value for name, value in values["moe"].items() if name != "keep"}
    read = EncoderConfig.from_dict({**values, "moe": {**moe, "recompute": recompute}})
    assert read == replace(PRESETS["tiny"], moe=replace(PRESETS["tiny"].moe, keep=keep))


@pytest.mark.parametrize("where", [(), ("moe",), ("vision",), ("text",)])
def test_unknown_key_is_named(where: tuple[str, ...]) -> None:
    values = EncoderConfig().to_dict()
    inner = values
    for name in where:
        inner = inner[name]
    inner["num_expert"] = 3
    with pytest.raises(ValueError, match="num_expert"):
        EncoderConfig.from_dict(values)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"relative_positions": "both"}, "relative_positions='both' is not one of none, layer, shared"),
        ({"image_positions": False}, "nothing would tell where a patch is; use layer or shared"),
        ({"layer_scale": 0.0}, "layer_scale=0.0 must be positive"),
    ],
)
def test_what_beits_options_cannot_be(changes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        EncoderConfig(**changes)
