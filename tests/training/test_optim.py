"""Truth: the docstrings of OptimConfig, parameter by parameter; the schedule by hand."""

import math

import pytest
import torch
from torch import nn

from mm_mhmoe.config import MoEConfig
from mm_mhmoe.models.tasks import PretrainModel, RetrievalModel
from mm_mhmoe.training.optim import OptimConfig, build_optimizer, lr_factor

# 0 and 2: the two matrices of from_cls
NAMES = "0 2 fc1 fc2 qkv proj head merge gate w1_EdF w2_EFd image_head text_head image_proj text_proj".split()  # noqa: SIM905


class Wrapped(nn.Module):
    """As a Lightning module holds its model: names start with `model.`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


def settings(module: nn.Module, config: OptimConfig, depth: int) -> dict[str, dict]:
    """The group of every parameter, by name."""
    groups = build_optimizer(module, config, steps=10, depth=depth)["optimizer"].param_groups
    found = {id(p): group for group in groups for p in group["params"]}
    assert len(found) == sum(len(group["params"]) for group in groups)
    return {name: found[id(p)] for name, p in module.named_parameters() if p.requires_grad}


def test_only_matrices_decay(config) -> None:
    module = Wrapped(PretrainModel(config(moe=MoEConfig(num_experts=4, every=2)), 8))
    by_name = settings(module, OptimConfig(weight_decay=0.07), depth=2)
    assert {group["weight_decay"] for group in by_name.values()} == {0.0, 0.07}
    for name, group in by_name.items():
        last = name.removesuffix(".weight").split(".")[-1]
        matrix = not name.endswith("bias") and last in NAMES
        assert (group["weight_decay"] == 0.07) == matrix, name
    assert len(by_name) == len(list(module.parameters()))


def test_frozen_parameters_are_left_out(config) -> None:
    module = Wrapped(RetrievalModel(config(), 4))
    module.model.encoder.text.requires_grad_(False)
    by_name = settings(module, OptimConfig(), depth=2)
    assert not any("encoder.text" in name for name in by_name) and "model.head.log_scale" in by_name


def test_layer_decay_by_depth(config) -> None:
    """Three blocks, 0.5: blocks 1/8, 1/4, 1/2; embeddings below them 1/16; final norm, and positions for all blocks, 1;
    heads at their own factor."""
    options = {"relative_positions": "shared", "layer_scale": 0.1}
    module = Wrapped(RetrievalModel(config(depth=3, **options), 4))
    by_name = settings(module, OptimConfig(lr=1.0, layer_decay=0.5, head_lr_scale=3.0, warmup_steps=0), depth=3)
    for name, group in by_name.items():
        if ".blocks." in name:
            expected = 0.5 ** (3 - int(name.split(".blocks.")[1][0]))
        elif ".encoder.norm." in name or ".encoder.relative_positions." in name:
            expected = 1.0
        elif ".encoder." in name:
            expected = 0.5**4
        else:
            expected = 3.0
        assert group["initial_lr"] == pytest.approx(expected), name


def test_layer_decay_of_multiway_experts_by_name(config) -> None:
    """Each modality's attention, norms, routers and experts, those of pairs in the last block, lie at their block's
    depth; matrices of experts decay, their biases do not. Two blocks, 0.5: 1/4, 1/2; below them 1/8."""
    moe = MoEConfig(num_experts=4, heads=4, every=1)
    module = Wrapped(PretrainModel(config(ffn="mh_moe", multiway=True, vl_layers=1, moe=moe), 8))
    by_name = settings(module, OptimConfig(lr=1.0, layer_decay=0.5, weight_decay=0.1, warmup_steps=0), depth=2)
    assert len(by_name) == len(list(module.parameters()))
    rates = {"blocks.0": 0.25, "blocks.1": 0.5}
    kinds = {(0, "image"), (0, "text"), (1, "image"), (1, "text"), (1, "pair")}
    experts = set()
    for name, group in by_name.items():
        part = name.removeprefix("model.encoder.")
        if part.startswith("blocks."):
            assert group["initial_lr"] == rates[part[:8]], name
        elif part == name:  # heads
            assert group["initial_lr"] == 1.0, name
        else:
            assert group["initial_lr"] == (1.0 if part.startswith("norm.") else 0.125), name
        if ".experts." in name or "w1_E" in name:
            matrix = ".w" in name
            assert group["weight_decay"] == (0.1 if matrix else 0.0), name
            experts.add((int(part.split(".")[1]), next(k for k in ("image", "text", "pair") if f".{k}." in name)))
    assert experts == kinds


def test_schedule_by_hand() -> None:
    def at(step: int) -> float:
        return lr_factor(step, "cosine", warmup=4, total=12, floor=0.1)

    assert [at(step) for step in range(4)] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert at(4) == pytest.approx(1.0)
    assert at(8) == pytest.approx(0.1 + 0.9 * 0.5)  # the middle of the cosine
    assert at(6) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4)))
    assert at(12) == at(99) == pytest.approx(0.1)
    assert lr_factor(0, "cosine", warmup=0, total=0, floor=0.0) == pytest.approx(1.0)


def test_other_schedules_by_hand() -> None:
    def at(step: int, schedule) -> float:
        return lr_factor(step, schedule, warmup=4, total=12, floor=0.1)

    assert at(1, "linear") == at(1, "constant") == pytest.approx(0.4)
    assert [at(step, "linear") for step in (4, 6, 8, 12, 99)] == pytest.approx([1.0, 0.775, 0.55, 0.1, 0.1])
    assert [at(step, "constant") for step in (4, 8, 12)] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", ["lamb", "lion", "adafactor", "sgd"])
def test_optimisers_of_timm_by_name(name: str, config) -> None:
    module = Wrapped(RetrievalModel(config(), 4))
    optimizer = build_optimizer(module, OptimConfig(name=name, lr=0.01), steps=5, depth=2)["optimizer"]
    assert name in type(optimizer).__name__.lower()
    before = nn.utils.parameters_to_vector(module.parameters()).detach()
    sum(p.square().sum() for p in module.parameters()).backward()
    optimizer.step()
    assert (before != nn.utils.parameters_to_vector(module.parameters())).float().mean() > 0.5


def test_every_group_follows_the_schedule(config) -> None:
    module = Wrapped(RetrievalModel(config(), 4))
    parts = build_optimizer(module, OptimConfig(lr=0.01, warmup_steps=3, layer_decay=0.5), steps=9, depth=2)
    optimizer, schedule = parts["optimizer"], parts["lr_scheduler"]["scheduler"]
    assert parts["lr_scheduler"]["interval"] == "step"
    for step in range(9):
        factor = lr_factor(step, "cosine", warmup=3, total=9, floor=0.0)
        for group in optimizer.param_groups:
            assert group["lr"] == pytest.approx(group["initial_lr"] * factor)
        optimizer.step()
        schedule.step()


def test_adamws_settings_arrive() -> None:
    optimizer = build_optimizer(nn.Linear(2, 2), OptimConfig(beta1=0.8, beta2=0.9, eps=1e-4), steps=1, depth=1)[
        "optimizer"
    ]
    assert isinstance(optimizer, torch.optim.AdamW)
    assert all(g["betas"] == (0.8, 0.9) and g["eps"] == 1e-4 for g in optimizer.param_groups)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"lr": 0.0}, "optim.lr=0.0"),
        ({"warmup_steps": -1}, "warmup_steps=-1"),
        ({"layer_decay": 1.5}, "layer_decay=1.5"),
        ({"name": "adamv"}, "optim.name='adamv'"),
        ({"schedule": "step"}, "schedule='step' is not one of cosine"),
        ({"ema_decay": 1.0}, "ema_decay=1.0"),
    ],
)
def test_errors_name_field_and_value(changes, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        OptimConfig(**changes)


@pytest.mark.parametrize("ffn", ["moe", "mh_moe"])
def test_experts_have_a_factor_of_their_own(config, ffn: str) -> None:
    """On top of the decay by depth, for shared experts too; routers and MH-MoE's two layers keep their block's rate."""
    moe = MoEConfig(num_experts=4, every=2, shared_experts=1)
    module = Wrapped(RetrievalModel(config(ffn=ffn, multiway=True, moe=moe), 4))
    options = OptimConfig(lr=1.0, layer_decay=0.5, expert_lr_scale=0.1, warmup_steps=0)
    by_name = settings(module, options, depth=2)
    experts = {name for name in by_name if ".experts." in name or ".shared." in name}
    assert len(experts) == 2 * (
        6 + 6
    )  # of each modality: matrices, biases and LayerNorm of the stacks and of the shared expert
    for name, group in by_name.items():
        if "blocks.1" in name:
            assert group["initial_lr"] == pytest.approx(0.05 if name in experts else 0.5), name
