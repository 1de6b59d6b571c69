"""Truth: the definitions. Pictures of one value show how they were mixed."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from mm_mhmoe.objectives.mixing import MixConfig, mix

LABELS_B = torch.arange(6)
NONE = {"mixup": 0.0, "cutmix": 0.0, "erase": 0.0, "smoothing": 0.0}


def flat() -> torch.Tensor:
    """Picture i is full of 40 i."""
    return (40 * LABELS_B).to(torch.uint8).view(-1, 1, 1, 1).repeat(1, 3, 8, 8)


def test_nothing_is_nothing() -> None:
    pixels, shares_BC = mix(flat(), LABELS_B, 7, MixConfig(**NONE))
    assert torch.equal(pixels, flat()) and torch.equal(shares_BC, torch.eye(6, 7))


def test_smoothing_is_torchs() -> None:
    _, shares_BC = mix(flat(), LABELS_B, 7, MixConfig(**{**NONE, "smoothing": 0.1}))
    logits_BC = torch.randn(6, 7)
    expected = torch.nn.functional.cross_entropy(logits_BC, LABELS_B, label_smoothing=0.1)
    torch.testing.assert_close(torch.nn.functional.cross_entropy(logits_BC, shares_BC), expected)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_shares_are_what_is_seen(kind: str) -> None:
    before, seen = flat(), set()
    for seed in range(8):
        torch.manual_seed(seed)
        pixels, shares_BC = mix(before, LABELS_B, 6, MixConfig(**{**NONE, kind: 1.0}))
        assert torch.equal(before, flat())  # the loader's memory stays as it was
        value_B = (40 * LABELS_B).float() / 127.5 - 1
        # Each picture is mixed with that at the other end; its mean colour is that of the shares.
        torch.testing.assert_close(pixels.mean(dim=(1, 2, 3)), shares_BC @ value_B, rtol=1e-4, atol=1e-4)
        own_B, other_B = shares_BC.diagonal(), shares_BC.gather(1, LABELS_B.flip(0)[:, None])[:, 0]
        torch.testing.assert_close(own_B + other_B, torch.ones(6))
        kinds = len(pixels[5].unique())
        assert kinds == 1 if kind == "mixup" else kinds <= 2
        seen.add(round(own_B[0].item(), 3))
    assert len(seen) > 4


def test_erased_rectangles_are_noise() -> None:
    torch.manual_seed(0)
    pixels, shares_BC = mix(flat(), LABELS_B, 6, MixConfig(**{**NONE, "erase": 0.99}))
    changed = pixels != flat().float() / 127.5 - 1
    assert changed.any(dim=1).float().mean(dim=(1, 2)).max() < 0.5 and changed.any()
    assert torch.equal(shares_BC, torch.eye(6))


def test_torchs_generator_decides_and_others_are_left_alone() -> None:
    random.seed(5), np.random.seed(5)
    expected = random.random(), np.random.rand()
    random.seed(5), np.random.seed(5)
    torch.manual_seed(3)
    first = mix(flat(), LABELS_B, 6, MixConfig())
    assert (random.random(), np.random.rand()) == expected
    torch.manual_seed(3)
    second = mix(flat(), LABELS_B, 6, MixConfig())
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_an_odd_batch_and_wrong_values_are_refused() -> None:
    with pytest.raises(ValueError, match="even batch_size"):
        mix(flat()[:5], LABELS_B[:5], 6, MixConfig())
    with pytest.raises(ValueError, match=r"mix\.mixup=-1 must not be negative"):
        MixConfig(mixup=-1)
    with pytest.raises(ValueError, match=r"mix\.erase=1 must lie in \[0, 1\)"):
        MixConfig(erase=1)
