"""From a configuration to an encoder. Below this file no layer sees a configuration object."""

from __future__ import annotations

import torch
from torch import nn

from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.models.block import Block
from mm_mhmoe.models.encoder import Encoder
from mm_mhmoe.models.init import initialize
from mm_mhmoe.nn import (
    Experts,
    FeedForward,
    ImageEmbedding,
    MoE,
    MultiHeadMoE,
    PatchEmbedding,
    SelfAttention,
    TextEmbedding,
    TopKRouter,
)


def build_encoder(config: EncoderConfig) -> Encoder:
    """A freshly initialised encoder; its weights follow torch's global random state."""
    vision, text = config.vision, config.text
    patch = PatchEmbedding(vision.patch_size, config.dim, mean=vision.pixel_mean, std=vision.pixel_std)
    image = ImageEmbedding(patch, vision.num_patches, config.dim)
    words = TextEmbedding(text.vocab_size, text.max_length, config.dim, text.mask_id)
    rates = torch.linspace(0, config.drop_path, config.depth).tolist()
    blocks = [
        Block(
            SelfAttention(config.dim, config.num_heads, sub_ln=config.sub_ln, norm_eps=config.norm_eps),
            build_ffn(config, layer),
            dim=config.dim,
            drop_path=rates[layer],
            norm_eps=config.norm_eps,
        )
        for layer in range(config.depth)
    ]
    encoder = Encoder(image, words, blocks, dim=config.dim, norm_eps=config.norm_eps)
    initialize(encoder, depth=config.depth, sub_ln=config.sub_ln)
    return encoder


def build_ffn(config: EncoderConfig, layer: int) -> nn.Module:
    """The FFN of block `layer`: dense, MoE on tokens, or MoE on sub-tokens inside MultiHeadMoE."""
    if not config.is_sparse(layer):
        return FeedForward(config.dim, config.ffn_dim, sub_ln=config.sub_ln, norm_eps=config.norm_eps)
    heads = config.moe.heads if config.ffn == "mh_moe" else 1
    width = config.dim // heads
    moe = MoE(
        TopKRouter(width, config.moe.num_experts, config.moe.top_k),
        Experts(
            config.moe.num_experts,
            width,
            config.expert_hidden_dim,
            sub_ln=config.sub_ln,
            norm_eps=config.norm_eps,
        ),
    )
    return MultiHeadMoE(config.dim, heads, moe) if config.ffn == "mh_moe" else moe
