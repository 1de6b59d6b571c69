"""Named sizes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mm_mhmoe.config.encoder import EncoderConfig
from mm_mhmoe.config.moe import MoEConfig
from mm_mhmoe.config.text import TextConfig
from mm_mhmoe.config.vision import VisionConfig

_BASE = EncoderConfig()
PRESETS: dict[str, EncoderConfig] = {
    "tiny": EncoderConfig(
        dim=192,
        depth=4,
        num_heads=3,
        ffn_dim=768,
        drop_path=0.0,
        vision=VisionConfig(image_size=96, patch_size=16, pixel_mean=(0.80, 0.78, 0.74), pixel_std=(0.33, 0.34, 0.36)),
        text=TextConfig(vocab_size=1600, max_length=12),
    ),
    "small": replace(_BASE, dim=384, num_heads=6, ffn_dim=1536),
    "base": _BASE,
    "large": replace(_BASE, dim=1024, depth=24, num_heads=16, ffn_dim=4096),
}

_DECODER = EncoderConfig(
    pictures=False,
    sub_ln=False,
    scale_tokens=True,
    drop_path=0.0,
    moe=MoEConfig(every=2, parity="params", top_k=1),
    text=TextConfig(vocab_size=64010, max_length=2048),
)
LANGUAGE_PRESETS: dict[str, EncoderConfig] = {
    "tiny": replace(
        _DECODER,
        dim=192,
        depth=4,
        num_heads=4,
        ffn_dim=768,
        moe=MoEConfig(),
        text=TextConfig(vocab_size=4000, max_length=128),
    ),
    "small": replace(_DECODER, dim=384, depth=6, num_heads=6, ffn_dim=1536),
    "base": _DECODER,
}


def preset(name: str, **changes: Any) -> EncoderConfig:
    """The named size with some fields changed: tiny (the demo), small, base and large (BEiT-3's sizes)."""
    if name not in PRESETS:
        raise ValueError(f"preset {name!r} is not one of {', '.join(PRESETS)}")
    return replace(PRESETS[name], **changes)


def language_preset(name: str, *, released: bool = False, **changes: Any) -> EncoderConfig:
    """The named size of a language model with some fields changed: tiny, small, base (12 layers, 768 wide, 12 heads,
    arXiv 2404.15045).

    Args:
        released: rotary positions, RMSNorm, SwiGLU of 2/3 the width and no biases, as in published decoders; false:
            learned positions, LayerNorm and GELU, as in the paper.
    """
    if name not in LANGUAGE_PRESETS:
        raise ValueError(f"language preset {name!r} is not one of {', '.join(LANGUAGE_PRESETS)}")
    found = LANGUAGE_PRESETS[name]
    if released:
        found = replace(
            found,
            text_positions="rotary",
            norm="rms",
            activation="swiglu",
            bias=False,
            ffn_dim=found.ffn_dim * 2 // 3,
            moe=replace(found.moe, activation="swiglu", expert_bias=False),
        )
    return replace(found, **changes)
