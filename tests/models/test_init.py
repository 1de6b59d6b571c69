"""Truth: Magneto (arXiv 2210.06423): values, outputs and FFN matrices times sqrt(ln 2L), queries and keys not.

Xavier-uniform has the bound sqrt(6 / (fan_in + fan_out)), and thousands of draws come within a few percent of it.
"""

import math

import pytest
import torch
from torch import nn

from mm_mhmoe.models.builder import build_encoder
from mm_mhmoe.nn import MultiHeadMoE

DEPTH = 6


def bound(fan_in: int, fan_out: int) -> float:
    return math.sqrt(6 / (fan_in + fan_out))


def largest(weight: torch.Tensor) -> float:
    return weight.abs().max().item()


@pytest.mark.parametrize(("sub_ln", "gain"), [(True, math.sqrt(math.log(2 * DEPTH))), (False, 1.0)])
def test_scales(config, sub_ln: bool, gain: float) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(config(depth=DEPTH, sub_ln=sub_ln))
    dense, sparse = encoder.blocks[0], encoder.blocks[1].ffn
    query, key, value = dense.attention.qkv.weight.chunk(3)
    for weight, expected in (
        (query, bound(32, 32)),
        (key, bound(32, 32)),
        (value, gain * bound(32, 32)),
        (dense.attention.proj.weight, gain * bound(32, 32)),
        (dense.ffn.fc1.weight, gain * bound(32, 128)),
        (dense.ffn.fc2.weight, gain * bound(128, 32)),
        (sparse.moe.experts.w1_EdF, gain * bound(8, 48)),
        (sparse.moe.experts.w2_EFd, gain * bound(48, 8)),
        (sparse.head.weight, bound(32, 32) / math.sqrt(2)),
        (sparse.merge.weight, bound(32, 32)),
    ):
        assert largest(weight) <= expected * (1 + 1e-6)
        assert largest(weight) > 0.97 * expected


def test_both_modalities_have_the_scales(config) -> None:
    torch.manual_seed(0)
    block, gain = (
        build_encoder(config(depth=DEPTH, multiway=True, ffn="dense")).blocks[0],
        math.sqrt(math.log(2 * DEPTH)),
    )
    for way in ("image", "text"):
        query, key, value = getattr(block.attention.qkv, way).weight.chunk(3)
        ffn = getattr(block.ffn, way)
        for weight, expected in (
            (query, bound(32, 32)),
            (key, bound(32, 32)),
            (value, gain * bound(32, 32)),
            (getattr(block.attention.proj, way).weight, gain * bound(32, 32)),
            (ffn.fc1.weight, gain * bound(32, 128)),
            (ffn.fc2.weight, gain * bound(128, 32)),
        ):
            assert 0.97 * expected < largest(weight) <= expected * (1 + 1e-6)


def test_experts_start_different(config) -> None:
    experts = build_encoder(config()).blocks[1].ffn.moe.experts
    assert not torch.equal(experts.w1_EdF[0], experts.w1_EdF[1])


def test_biases_are_zero_and_norms_one(config) -> None:
    encoder = build_encoder(config())
    heads = {id(m.head.bias) for m in encoder.modules() if isinstance(m, MultiHeadMoE)}
    for module in encoder.modules():
        if isinstance(module, nn.Linear) and module.bias is not None and id(module.bias) not in heads:
            assert not module.bias.any()
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all() and not module.bias.any()


def test_the_same_seed_gives_the_same_weights(config) -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(build_encoder(config()).parameters())

    assert torch.equal(weights(3), weights(3)) and not torch.equal(weights(3), weights(4))
