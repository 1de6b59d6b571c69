"""Another number of experts, and plain experts as MH-MoE with one head. Legend: E experts, K those kept or cloned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.models.upcycling.copies import add_noise
from mm_mhmoe.models.upcycling.layers import Place, Weights, built_ffn, convert_ffns, layer_of, moe_of, sparse_layers

# What a router holds for each expert. All that the experts themselves hold is stacked.
_ROUTER_ROWS = ("router.gate.weight", "router.embeddings_ER")
_ROUTER_BIAS = "router.bias_E"


def resize(
    config: EncoderConfig,
    weights: Mapping[str, Tensor],
    num_experts: int,
    *,
    top_k: int | None = None,
    noise: float = 0.0,
    router_noise: float = 0.0,
    seed: int = 0,
    counts: Mapping[Place, Tensor] | None = None,
) -> tuple[EncoderConfig, Weights]:
    """A sparse model (moe or mh_moe) with more or fewer experts.

    With more, expert i is a clone of expert i mod E. With fewer, the most used ones of each layer stay, in their order.

    Args:
        num_experts: of each layer from now on.
        top_k: from now on; None: as before.
        noise: deviation of what is added to the experts' matrices, in units of each matrix's own deviation.
        router_noise: the same for the router's row of each expert. Without it, clones are always chosen together.
        seed: of both.
        counts: for fewer experts: by place, how often each expert is used, (E,); without it the first ones stay.

    Raises:
        ValueError: the model is dense, or a number does not fit.
    """
    moe = config.moe
    if config.ffn == "dense":
        raise ValueError("the model is dense and has no experts to change; make experts of its FFNs first")
    if num_experts < 1:
        raise ValueError(f"num_experts={num_experts} must be 1 or more")
    if min(noise, router_noise) < 0:
        raise ValueError(f"noise={noise} and router_noise={router_noise} must not be negative")
    changed = replace(moe, num_experts=num_experts, top_k=moe.top_k if top_k is None else top_k)
    if changed.top_k != moe.top_k or moe.parity == "params":  # the experts' width would follow these numbers
        changed = replace(changed, parity="none", hidden_dim=config.expert_hidden_dim)
    target = replace(config, moe=changed)

    def convert(place: Place, part: Weights) -> Mapping[str, Tensor]:
        chosen_K = _chosen(moe.num_experts, num_experts, None if counts is None else counts[place])
        ffn = built_ffn(target, layer_of(place), {name: _rows(name, value, chosen_K) for name, value in part.items()})
        add_noise(moe_of(ffn).experts, noise)
        for name, rows in ffn.named_parameters() if router_noise else ():
            if name.endswith(_ROUTER_ROWS):
                rows.add_(router_noise * rows.std() * torch.randn_like(rows))
        return ffn.state_dict()

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        return target, convert_ffns(weights, sparse_layers(config), convert)


def to_single_head(
    config: EncoderConfig, weights: Mapping[str, Tensor], *, projection_layers: int = 1
) -> tuple[EncoderConfig, Weights]:
    """A plain MoE as MH-MoE with one head: the same function, with identities for the multi-head and merge layer.

    Raises:
        ValueError: the model is no plain MoE, or projection_layers is neither 0 nor 1.
    """
    if config.ffn != "moe":
        raise ValueError(f"the model has ffn={config.ffn}; only moe is MH-MoE with one head")
    if projection_layers not in (0, 1):
        raise ValueError(f"projection_layers={projection_layers}: only 0 or 1 can start as the identity")
    moe = replace(
        config.moe,
        heads=1,
        projection_layers=projection_layers,
        inner_residual=False,
        parity="none",  # under parity=flops the two layers would make the experts narrower
        hidden_dim=config.expert_hidden_dim,
    )
    target = replace(config, ffn="mh_moe", moe=moe)

    def convert(place: Place, part: Weights) -> Mapping[str, Tensor]:
        inner = {f"moe.{name}": value.clone() for name, value in part.items()}
        like = part["experts.w1_EdF"]
        for name in ("head", "merge") if projection_layers else ():
            inner[f"{name}.weight"] = torch.eye(config.dim, dtype=like.dtype)
            inner[f"{name}.bias"] = torch.zeros(config.dim, dtype=like.dtype)
        return built_ffn(target, layer_of(place), inner).state_dict()

    return target, convert_ffns(weights, sparse_layers(config), convert)


def _chosen(before: int, after: int, counts_E: Tensor | None) -> Tensor:
    if after >= before or counts_E is None:
        return torch.arange(after) % before
    if counts_E.shape != (before,):
        raise ValueError(f"counts of shape {tuple(counts_E.shape)} were given for {before} experts; give one for each")
    return counts_E.argsort(descending=True, stable=True)[:after].sort().values


def _rows(name: str, value: Tensor, chosen_K: Tensor) -> Tensor:
    plain = name.removeprefix("moe.")
    return value[chosen_K] if plain.startswith("experts.") or plain in (*_ROUTER_ROWS, _ROUTER_BIAS) else value
