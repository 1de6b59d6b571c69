"""What a model is made of: frozen dataclasses that are checked when they are made, and the size presets."""

from mm_mhmoe.config.encoder import EncoderConfig, FFNKind
from mm_mhmoe.config.moe import Activation, MoEConfig
from mm_mhmoe.config.presets import LANGUAGE_PRESETS, PRESETS, language_preset, preset
from mm_mhmoe.config.text import TextConfig
from mm_mhmoe.config.vision import VisionConfig

__all__ = [
    "LANGUAGE_PRESETS",
    "PRESETS",
    "Activation",
    "EncoderConfig",
    "FFNKind",
    "MoEConfig",
    "TextConfig",
    "VisionConfig",
    "language_preset",
    "preset",
]
