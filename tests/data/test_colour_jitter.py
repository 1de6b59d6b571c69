"""Truth: torchvision's functions on floats, one after the other. The pictures are made up."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mm_mhmoe_data.colour_jitter import jitter_colours
from torchvision.transforms.v2 import functional as TF


def picture(low: int, high: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, (24, 31, 3), dtype=torch.uint8, generator=generator).permute(2, 0, 1)


@pytest.mark.parametrize("seed", range(6))
def test_equals_torchvisions_three_steps(seed: int) -> None:
    """Of middling colours, which no step cuts off: to a level, of which rounding takes a half."""
    pixels = picture(60, 130)
    draws = np.random.default_rng(seed).random(3)
    brightness, contrast, saturation = 0.6 + 0.8 * draws
    true = TF.adjust_brightness(pixels.float() / 255, brightness)
    true = TF.adjust_saturation(TF.adjust_contrast(true, contrast), saturation) * 255
    out = jitter_colours(pixels, 0.4, draws.tolist())
    assert out.dtype == torch.uint8 and out.shape == pixels.shape
    assert (out - true).abs().max() <= 1


def test_values_are_cut_off_and_never_wrap_around() -> None:
    pixels = picture(0, 256)
    for seed in range(20):
        draws = np.random.default_rng(seed).random(3).tolist()
        brightness = 0.6 + 0.8 * draws[0]
        out = jitter_colours(torch.full_like(pixels, 255), 0.4, draws).float()
        assert out.unique().numel() == 1 and abs(out.mean() - min(255, 255 * brightness)) <= 1  # white has no contrast


def test_hardly_anything_changes_at_a_tiny_strength() -> None:
    pixels = picture(0, 256)
    assert (jitter_colours(pixels, 1e-9, [0.0, 0.99, 0.3]).int() - pixels.int()).abs().max() <= 1
