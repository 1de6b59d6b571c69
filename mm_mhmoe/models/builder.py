"""From a configuration to an encoder. Below this file no layer sees a configuration object."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mm_mhmoe.config import EncoderConfig, MoEConfig
from mm_mhmoe.config.encoder import RelativeKind
from mm_mhmoe.models.block import Block
from mm_mhmoe.models.encoder import Encoder
from mm_mhmoe.models.init import initialize
from mm_mhmoe.nn import (
    Capacity,
    ExpertChoiceRouter,
    Experts,
    FeedForward,
    ImageEmbedding,
    MoE,
    MultiHeadMoE,
    Multiway,
    MultiwayMoE,
    PatchEmbedding,
    RelativePositions,
    RotaryPositions,
    SelfAttention,
    SigmoidRouter,
    TextEmbedding,
    TopKRouter,
    XMoERouter,
)


def build_encoder(config: EncoderConfig) -> Encoder:
    """A freshly initialised encoder; its weights follow torch's global random state."""
    text = config.text
    image = _image_embedding(config) if config.pictures else None
    words = TextEmbedding(
        text.vocab_size,
        text.num_positions,
        config.dim,
        text.mask_id,
        positions=config.text_positions == "learned",
        scale=config.dim**0.5 if config.scale_tokens else 1.0,
    )
    rates = torch.linspace(0, config.drop_path, config.depth, device="cpu").tolist()  # models may be built on meta
    norms: dict[str, Any] = {"norm_eps": config.norm_eps, "multiway": config.multiway}
    blocks = [
        Block(
            SelfAttention(
                config.dim, config.num_heads, sub_ln=config.sub_ln, bias=config.bias, rotary=_rotary(config), **norms
            ),
            build_ffns(config, layer),
            dim=config.dim,
            drop_path=rates[layer],
            layer_scale=config.layer_scale,
            relative_positions=_relative_positions(config, "layer"),
            norm=config.norm,
            **norms,
        )
        for layer in range(config.depth)
    ]
    shared = _relative_positions(config, "shared")
    encoder = Encoder(
        image,
        words,
        blocks,
        dim=config.dim,
        final_norm=config.final_norm,
        relative_positions=shared,
        norm=config.norm,
        **norms,
    )
    initialize(encoder, depth=config.depth, sub_ln=config.sub_ln)
    return encoder


def _image_embedding(config: EncoderConfig) -> ImageEmbedding:
    vision = config.vision
    patch = PatchEmbedding(vision.patch_size, config.dim, mean=vision.pixel_mean, std=vision.pixel_std)
    return ImageEmbedding(patch, vision.num_patches, config.dim, positions=config.image_positions)


def build_ffns(config: EncoderConfig, layer: int) -> nn.Module:
    """The FFN of block `layer`, or one for pictures, one for texts, and maybe one for pairs."""
    if config.ffns(layer) == 1:
        return build_ffn(config, layer)
    kind = MultiwayMoE if config.is_sparse(layer) else Multiway
    return kind(*(build_ffn(config, layer) for _ in range(config.ffns(layer))))


def build_ffn(config: EncoderConfig, layer: int) -> nn.Module:
    """One FFN of block `layer`: dense, MoE on tokens, or MoE on sub-tokens inside MultiHeadMoE."""
    inner: dict[str, Any] = {"sub_ln": config.sub_ln, "norm_eps": config.norm_eps}
    if not config.is_sparse(layer):
        return FeedForward(config.dim, config.ffn_dim, activation=config.activation, bias=config.bias, **inner)
    options, hidden = config.moe, config.expert_hidden_dim
    width = config.dim // options.heads if config.ffn == "mh_moe" else config.dim
    inner |= {"activation": options.activation, "bias": options.expert_bias}
    moe = MoE(
        build_router(options, width),
        Experts(options.num_experts, width, hidden, keep=options.keep, **inner),
        capacity=_capacity(options),
        shared=FeedForward(width, options.shared_experts * hidden, **inner) if options.shared_experts else None,
    )
    if config.ffn == "moe":
        return moe
    return MultiHeadMoE(
        config.dim,
        options.heads,
        moe,
        projection_layers=options.projection_layers,
        inner_residual=options.inner_residual,
    )


def build_router(moe: MoEConfig, width: int) -> nn.Module:
    """The router of (sub-)tokens of that width."""
    size = (width, moe.num_experts, moe.top_k)
    if moe.router == "expert_choice":
        return ExpertChoiceRouter(width, moe.num_experts, average_k=moe.top_k)
    if moe.router == "sigmoid_bias":
        return SigmoidRouter(*size)
    if moe.router in ("xmoe", "xmoe_released"):
        return XMoERouter(
            *size,
            routing_dim=moe.router_dim,
            gate=moe.xmoe_gate,
            normalize=moe.normalize_weights,
            released=moe.router == "xmoe_released",
        )
    return TopKRouter(
        *size,
        second_policy=moe.second_policy,
        normalize=moe.normalize_weights,
        jitter=moe.router_jitter,
        noise=moe.router_noise,
    )


def _relative_positions(config: EncoderConfig, where: RelativeKind) -> RelativePositions | None:
    if config.relative_positions != where:
        return None
    return RelativePositions(config.vision.grid, config.num_heads)


def _rotary(config: EncoderConfig) -> RotaryPositions | None:
    if config.text_positions != "rotary":
        return None
    return RotaryPositions(config.dim // config.num_heads, base=config.rotary_base)


def _capacity(moe: MoEConfig) -> Capacity | None:
    return None if moe.capacity_factor is None else Capacity(factor=moe.capacity_factor, policy=moe.drop_policy)
