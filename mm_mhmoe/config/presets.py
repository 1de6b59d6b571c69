"""Named sizes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mm_mhmoe.config.encoder import EncoderConfig
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


def preset(name: str, **changes: Any) -> EncoderConfig:
    """The named size with some fields changed: tiny (the demo), small, base and large (BEiT-3's sizes)."""
    if name not in PRESETS:
        raise ValueError(f"preset {name!r} is not one of {', '.join(PRESETS)}")
    return replace(PRESETS[name], **changes)
