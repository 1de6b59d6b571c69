from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mm_mhmoe_data.masking import sample_rng
from mm_mhmoe_data.transforms import EvalTransform, TrainTransform


def _picture(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 90), width=st.integers(1, 90), seed=st.integers(0, 2**32))
def test_both_give_uint8_squares(height: int, width: int, seed: int) -> None:
    picture = _picture(height, width)
    for out in (TrainTransform(16)(picture, np.random.default_rng(seed)), EvalTransform(16)(picture)):
        assert out.shape == (3, 16, 16) and out.dtype == torch.uint8


def test_a_crop_is_a_function_of_seed_epoch_and_key() -> None:
    picture, transform = _picture(40, 40), TrainTransform(24, flip=0.5)
    out = [transform(picture, sample_rng(0, epoch, key, "s")) for epoch in range(3) for key in "ab"]
    again = [transform(picture, sample_rng(0, epoch, key, "s")) for epoch in range(3) for key in "ab"]
    assert all(torch.equal(a, b) for a, b in zip(out, again, strict=True))
    assert len({a.numpy().tobytes() for a in out}) == len(out)


def test_min_scale_bounds_the_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    from mm_mhmoe_data import transforms

    areas = []

    def record(picture: torch.Tensor, top: int, left: int, height: int, width: int, size: list[int], **_: bool):
        assert top + height <= 100 and left + width <= 100
        areas.append(height * width)
        return torch.zeros(3, *size, dtype=torch.uint8)

    monkeypatch.setattr(transforms.F, "resized_crop", record)
    for seed in range(300):
        TrainTransform(8, min_scale=0.5)(_picture(100, 100), np.random.default_rng(seed))
    # A crop that would stick out is cut back; at aspect 4/3 that takes at most 1 - sqrt(3/4) of the area.
    assert min(areas) >= 0.5 * 100 * 100 * 0.98 and max(areas) <= 100 * 100
    assert max(areas) - min(areas) > 2000


def test_flip_is_off_unless_asked_for() -> None:
    picture = torch.arange(16, dtype=torch.uint8).repeat(3, 16, 1)  # brighter to the right
    for flip, expected in ((0.0, {False}), (1.0, {True}), (0.5, {False, True})):
        outs = [TrainTransform(16, flip=flip)(picture, np.random.default_rng(seed)) for seed in range(30)]
        assert {bool(out[0, 0, 0] > out[0, 0, -1]) for out in outs} == expected


def test_evaluation_keeps_a_picture_of_the_right_size() -> None:
    picture = _picture(32, 32)
    assert EvalTransform(32)(picture) is picture


def test_evaluation_takes_the_centre() -> None:
    picture = torch.zeros(3, 32, 96, dtype=torch.uint8)
    picture[:, :, 32:64] = 200
    assert (EvalTransform(32)(picture) == 200).all()


@pytest.mark.parametrize("scale", [0.0, -1.0, 1.5])
def test_an_impossible_scale_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="min_scale"):
        TrainTransform(16, min_scale=scale)
