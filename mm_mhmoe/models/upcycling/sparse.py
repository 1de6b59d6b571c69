"""From dense FFNs to experts (sparse upcycling, arXiv 2212.05055)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.models.builder import build_ffn
from mm_mhmoe.models.init import initialize
from mm_mhmoe.models.upcycling.copies import copy_start
from mm_mhmoe.models.upcycling.layers import Place, Weights, built_ffn, convert_ffns, layer_of, sparse_layers
from mm_mhmoe.models.upcycling.multihead import multihead_start, synthetic_inputs
from mm_mhmoe.nn import FeedForward, MultiHeadMoE


def to_sparse(
    config: EncoderConfig,
    weights: Mapping[str, Tensor],
    target: EncoderConfig,
    *,
    noise: float = 0.0,
    seed: int = 0,
    inputs: Mapping[Place, Tensor] | None = None,
) -> tuple[EncoderConfig, Weights]:
    """A dense model with experts in every moe.every-th FFN; all else stays as it is.

    On whole tokens (`moe`, and `mh_moe` with one head) every expert is a copy of its dense FFN, behind a fresh router.
    With shared experts, these are the copy, and the second matrix of the others is zero. On sub-tokens (`mh_moe` with
    more heads) no copy exists: see `multihead_start`.

    Args:
        config: of the dense encoder.
        weights: of that encoder, or of a model of models/tasks around it.
        target: the configuration wanted; differs from config in `ffn` and `moe` only.
        noise: deviation of what is added to each expert's matrices, in units of the matrix's own deviation.
        seed: of the fresh routers, and of the noise.
        inputs: (T, D) inputs of the dense FFNs by place, which the merge layer of mh_moe is fitted on; without it,
            random ones.

    Raises:
        ValueError: no such construction; names the setting in the way.
    """
    _check(config, target)
    if noise < 0:
        raise ValueError(f"noise={noise} must not be negative")

    def convert(place: Place, part: Weights) -> Mapping[str, Tensor]:
        dense = built_ffn(config, layer_of(place), part)
        assert isinstance(dense, FeedForward)
        ffn = _fresh_ffn(target, layer_of(place)).to(dense.fc1.weight.dtype)
        if isinstance(ffn, MultiHeadMoE) and ffn.heads > 1:
            real = None if inputs is None else inputs.get(place)
            multihead_start(ffn, dense, _inputs(weights, place, config) if real is None else real, noise=noise)
        else:
            copy_start(ffn, dense, noise=noise)
        return ffn.state_dict()

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        return target, convert_ffns(weights, sparse_layers(target), convert)


def preserves_function(target: EncoderConfig) -> bool:
    """Whether the result of `to_sparse` without noise computes, in evaluation, what the dense model does.

    Copies do so where every token's weights sum to one; a shared copy does so whatever the others' weights.
    """
    moe = target.moe
    if target.ffn == "mh_moe" and moe.heads > 1:
        return False
    normalised = moe.top_k > 1 and moe.normalize_weights and moe.router != "expert_choice"
    return (normalised and moe.capacity_factor is None) or moe.shared_experts > 0


def _fresh_ffn(config: EncoderConfig, layer: int) -> nn.Module:
    ffn = build_ffn(config, layer).eval()
    initialize(ffn, depth=config.depth, sub_ln=config.sub_ln)
    return ffn


def _inputs(weights: Mapping[str, Tensor], place: Place, config: EncoderConfig) -> Tensor:
    norm = f"blocks.{layer_of(place)}.ffn_norm"
    if not isinstance(place, int):  # the tokens of pairs have their modality's
        norm += ".text" if place[1] == "text" else ".image"
    prefix = "encoder." if f"encoder.{norm}.weight" in weights else ""
    names = [f"{prefix}{norm}.{part}" for part in ("weight", "bias")]
    return synthetic_inputs(weights[names[0]], weights[names[1]], eps=config.norm_eps)


def _check(config: EncoderConfig, target: EncoderConfig) -> None:
    moe, hidden = target.moe, target.expert_hidden_dim if target.ffn != "dense" else 0
    on_tokens = target.ffn == "moe" or moe.heads == 1
    if config.ffn != "dense":
        raise ValueError(
            f"the model has ffn={config.ffn} already; a dense one becomes sparse, a sparse one gets another number of "
            "experts"
        )
    if target.ffn == "dense":
        raise ValueError("ffn=dense is what the model has; choose moe or mh_moe")
    ours, theirs = config.to_dict(), target.to_dict()
    differing = [name for name in ours if name not in ("ffn", "moe") and ours[name] != theirs[name]]
    if differing:
        raise ValueError(f"{', '.join(differing)}: upcycling changes ffn and moe only; keep the dense model's values")
    if target.multiway and target.expert_pools == 1:
        raise ValueError(
            f"moe.pools={moe.pools}: pictures and texts have FFNs of their own, and one pool cannot be copies of both; "
            "use moe.pools=modality"
        )
    if moe.activation != "gelu":
        raise ValueError(f"moe.activation={moe.activation}: a dense GELU FFN cannot become such experts; use gelu")
    if not moe.expert_bias:
        raise ValueError("moe.expert_bias=False: the dense FFN's biases would be lost; use True")
    if on_tokens and hidden != config.ffn_dim:
        raise ValueError(
            f"under moe.parity={moe.parity} an expert would be {hidden} wide, but a copy of the dense FFN is "
            f"{config.ffn_dim} wide; use moe.parity=none and moe.hidden_dim={config.ffn_dim}"
        )
    if target.ffn == "mh_moe":
        _check_multihead(target)


def _check_multihead(target: EncoderConfig) -> None:
    moe, dim = target.moe, target.dim
    if moe.heads == 1:
        if moe.projection_layers > 1 or moe.inner_residual:
            raise ValueError(
                f"moe.heads=1 with moe.projection_layers={moe.projection_layers} and moe.inner_residual="
                f"{moe.inner_residual} cannot start as the dense FFN; use at most one layer and no residual"
            )
        return
    if moe.projection_layers != 1:
        raise ValueError(
            f"moe.projection_layers={moe.projection_layers}: sub-tokens can take over a dense FFN only between one "
            "multi-head and one merge layer; use 1, or moe.heads=1"
        )
    if moe.num_experts < moe.heads:
        raise ValueError(
            f"moe.num_experts={moe.num_experts} is less than moe.heads={moe.heads}: each head's part of the dense FFN "
            "needs an expert; use at least as many experts"
        )
    if moe.heads**2 > dim:
        raise ValueError(
            f"moe.heads={moe.heads} leaves sub-tokens of {dim // moe.heads}, fewer than the heads that they have to be "
            "told apart by; use fewer heads"
        )
    if moe.router in ("xmoe", "xmoe_released") and moe.router_dim < moe.heads:
        raise ValueError(
            f"moe.router_dim={moe.router_dim} is less than moe.heads={moe.heads}: the router could not tell the heads "
            "apart; raise it"
        )
