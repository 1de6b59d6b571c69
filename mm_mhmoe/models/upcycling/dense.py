"""From experts back to a dense FFN, for inspection and as a baseline. Legend: E experts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.models.builder import build_ffn
from mm_mhmoe.models.upcycling.copies import given
from mm_mhmoe.models.upcycling.layers import Place, Weights, built_ffn, convert_ffns, layer_of, moe_of, sparse_layers
from mm_mhmoe.nn import FeedForward, MultiHeadMoE


def to_dense(
    config: EncoderConfig, weights: Mapping[str, Tensor], *, expert: int | None = None
) -> tuple[EncoderConfig, Weights]:
    """A sparse model with one dense FFN in place of each layer's experts: their mean, or one of them.

    MH-MoE has a dense counterpart with one head only: the multi-head and merge layer go into the two matrices.

    Args:
        expert: the one to take; None: the mean of all their weights.

    Raises:
        ValueError: there is no such dense FFN; names the setting in the way.
    """
    _check(config, expert)
    # Without dense FFNs beside them, the experts may have any width.
    target = replace(config, ffn="dense", ffn_dim=config.expert_hidden_dim)

    def convert(place: Place, part: Weights) -> Mapping[str, Tensor]:
        ffn = built_ffn(config, layer_of(place), part)
        dense = build_ffn(target, layer_of(place)).to(next(iter(part.values())).dtype)
        assert isinstance(dense, FeedForward)
        _fill(dense, ffn, expert)
        if isinstance(ffn, MultiHeadMoE) and config.moe.projection_layers:
            _fold(dense, *ffn.projections())
        return dense.state_dict()

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        return target, convert_ffns(weights, sparse_layers(config), convert)


def _fill(dense: FeedForward, ffn: nn.Module, expert: int | None) -> None:
    experts = moe_of(ffn).experts

    def one(stack: Tensor | None) -> Tensor:
        values = given(stack)
        # Added to the first, so that the mean of equal weights is those weights to the last bit.
        return values[0] + (values - values[0]).mean(dim=0) if expert is None else values[expert]

    dense.fc1.weight.copy_(one(experts.w1_EdF).t())
    dense.fc1.bias.copy_(one(experts.b1_EF))
    dense.fc2.weight.copy_(one(experts.w2_EFd).t())
    dense.fc2.bias.copy_(one(experts.b2_Ed))
    if isinstance(dense.norm, nn.LayerNorm):
        dense.norm.weight.copy_(one(experts.norm_scale_EF))
        dense.norm.bias.copy_(one(experts.norm_bias_EF))


def _fold(dense: FeedForward, head: nn.Linear, merge: nn.Linear) -> None:
    dense.fc1.bias.add_(dense.fc1.weight @ head.bias)
    dense.fc1.weight.copy_(dense.fc1.weight @ head.weight)
    dense.fc2.weight.copy_(merge.weight @ dense.fc2.weight)
    dense.fc2.bias.copy_(merge.weight @ dense.fc2.bias + merge.bias)


def _check(config: EncoderConfig, expert: int | None) -> None:
    moe = config.moe
    if config.ffn == "dense":
        raise ValueError("the model is dense already")
    if config.multiway and config.expert_pools == 1:
        raise ValueError(
            f"moe.pools={moe.pools}: pictures and texts share a pool, and a dense multiway encoder has an FFN for each"
        )
    if expert is not None and not 0 <= expert < moe.num_experts:
        raise ValueError(f"expert={expert} is not one of 0 to {moe.num_experts - 1}")
    if moe.shared_experts:
        raise ValueError(f"moe.shared_experts={moe.shared_experts}: a shared expert beside others is no one dense FFN")
    if moe.activation != "gelu" or not moe.expert_bias:
        raise ValueError(
            f"moe.activation={moe.activation} and moe.expert_bias={moe.expert_bias}: a dense FFN has GELU and biases"
        )
    if config.ffn == "mh_moe" and (moe.heads > 1 or moe.projection_layers > 1 or moe.inner_residual):
        raise ValueError(
            f"moe.heads={moe.heads}, moe.projection_layers={moe.projection_layers}, moe.inner_residual="
            f"{moe.inner_residual}: MH-MoE is a dense FFN only with one head, at most one layer and no residual"
        )
    if config.expert_hidden_dim != config.ffn_dim and len(sparse_layers(config)) < config.depth:
        raise ValueError(
            f"an expert has {config.expert_hidden_dim} hidden units and the dense FFNs beside it {config.ffn_dim}; "
            "an encoder has one width for all"
        )
