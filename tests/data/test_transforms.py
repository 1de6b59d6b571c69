"""Truth: torchvision's transforms, PIL's resize, pictures whose pixels are known. All pictures here are made up."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mm_mhmoe_data.masking import sample_draws
from mm_mhmoe_data.transforms import EvalTransform, TrainTransform, resize
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as TF


def _picture(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def draws(seed: int) -> list[float]:
    return np.random.default_rng(seed).random(8).tolist()


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 90), width=st.integers(1, 90), seed=st.integers(0, 2**32))
def test_both_give_uint8_squares(height: int, width: int, seed: int) -> None:
    picture = _picture(height, width)
    for out in (TrainTransform(16)(picture, draws(seed)), EvalTransform(16)(picture)):
        assert out.shape == (3, 16, 16) and out.dtype == torch.uint8


def test_a_crop_is_a_function_of_seed_epoch_and_key() -> None:
    picture, transform = _picture(40, 40), TrainTransform(24, flip="on", jitter=0.4)
    out = [transform(picture, sample_draws(0, epoch, key, "s")) for epoch in range(3) for key in "ab"]
    again = [transform(picture, sample_draws(0, epoch, key, "s")) for epoch in range(3) for key in "ab"]
    assert all(torch.equal(a, b) for a, b in zip(out, again, strict=True))
    assert len({a.numpy().tobytes() for a in out}) == len(out)


def test_min_scale_bounds_the_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    from mm_mhmoe_data import transforms

    areas = []

    def record(picture_CHW: torch.Tensor, height: int, width: int, interpolation: str, crop, out) -> torch.Tensor:
        areas.append(crop[2] * crop[3])
        return torch.zeros(3, height, width, dtype=torch.uint8)

    monkeypatch.setattr(transforms, "resize", record)
    for seed in range(300):
        TrainTransform(8, min_scale=0.5)(_picture(100, 100), draws(seed))
    # A crop that would stick out is cut back; at aspect 4/3 that takes at most 1 - sqrt(3/4) of the area.
    assert min(areas) >= 0.5 * 100 * 100 * 0.98 and max(areas) <= 100 * 100
    assert max(areas) - min(areas) > 2000


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("layout", ["CHW", "HWC"])
def test_a_crop_is_torchvisions_resized_crop(interpolation, layout: str) -> None:
    """The crop's place is drawn as written here: area, aspect, top, left. Exactly the same pixels, in both layouts."""
    for seed in range(12):
        picture = _picture(70 + seed, 90)
        if layout == "HWC":
            picture = picture.permute(1, 2, 0).contiguous().permute(2, 0, 1)
        area, aspect, top, left, *_ = draws(seed)
        area, aspect = (0.5 + 0.5 * area) * (70 + seed) * 90, (3 / 4) ** (1 - aspect) * (4 / 3) ** aspect
        height, width = min(70 + seed, round((area / aspect) ** 0.5)), min(90, round((area * aspect) ** 0.5))
        top, left = int(top * (71 + seed - height)), int(left * (91 - width))
        mode = InterpolationMode(interpolation)
        true = TF.resized_crop(
            picture.contiguous(), top, left, height, width, [32, 32], interpolation=mode, antialias=True
        )
        out = TrainTransform(32, interpolation=interpolation)(picture, draws(seed))
        assert torch.equal(out, true)


@pytest.mark.parametrize("options", [{}, {"flip": "on"}, {"jitter": 0.4}, {"flip": "on", "jitter": 0.4}])
@pytest.mark.parametrize("size", [(70, 90), (16, 16)])
def test_the_result_lies_where_it_is_wanted(options, size: tuple[int, int]) -> None:
    """A row of a batch, between others."""
    transform = TrainTransform(16, min_scale=1, **options)
    picture, batch_BHWC = _picture(*size), torch.zeros(5, 16, 16, 3, dtype=torch.uint8)
    for seed in range(6):
        as_drawn = draws(seed)
        as_drawn[1] = 0.5 if seed < 3 else as_drawn[1]  # aspect 1: the square of 16 is not resized
        batch_BHWC.zero_()
        row_CHW = batch_BHWC.permute(0, 3, 1, 2)[2]
        out = transform(picture, as_drawn, out_CHW=row_CHW)
        assert out is row_CHW and torch.equal(out, transform(picture, as_drawn))
        assert not batch_BHWC[[0, 1, 3, 4]].any()


@settings(max_examples=150, deadline=None)
@given(data=st.data(), interpolation=st.sampled_from(["bilinear", "bicubic"]), planes=st.booleans())
def test_a_part_resized_into_a_row_is_torchvisions(data: st.DataObject, interpolation, planes: bool) -> None:
    """Of any size and layout, between rows that stay as they are."""
    sides = st.integers(1, 40)
    picture = _picture(data.draw(sides), data.draw(sides))
    if not planes:
        picture = picture.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    height, width = (data.draw(st.integers(1, side)) for side in picture.shape[1:])
    top, left = (
        data.draw(st.integers(0, side - part)) for side, part in zip(picture.shape[1:], (height, width), strict=True)
    )
    size = data.draw(st.integers(2, 40)), data.draw(st.integers(2, 40))
    rows_BHWC = torch.full((3, *size, 3), 77, dtype=torch.uint8)
    row_CHW = rows_BHWC.permute(0, 3, 1, 2)[1]
    assert resize(picture, *size, interpolation, (top, left, height, width), row_CHW) is row_CHW
    part = picture[:, top : top + height, left : left + width].contiguous()
    true = TF.resize(part, list(size), interpolation=InterpolationMode(interpolation), antialias=True)
    assert torch.equal(row_CHW, true) and (rows_BHWC[[0, 2]] == 77).all()


@pytest.mark.parametrize(("interpolation", "levels"), [("bilinear", 1), ("bicubic", 4)])
@pytest.mark.parametrize("size", [(20, 33), (64, 64), (100, 90)])
def test_resizing_comes_close_to_pil(interpolation, levels: int, size: tuple[int, int]) -> None:
    """Both count in integers, torch with coarser weights: of 256 levels of noise a few may differ."""
    picture_CHW = _picture(64, 80)
    image = Image.fromarray(picture_CHW.permute(1, 2, 0).numpy())
    true = np.asarray(image.resize(size[::-1], getattr(Image.Resampling, interpolation.upper())))
    out = resize(picture_CHW, *size, interpolation).permute(1, 2, 0).numpy()
    difference = np.abs(out.astype(int) - true.astype(int))
    assert difference.max() <= levels and difference.mean() < 0.5


def test_no_crop_of_the_least_side_is_enlarged(monkeypatch: pytest.MonkeyPatch) -> None:
    from mm_mhmoe_data import transforms

    transform, sides = TrainTransform(16, min_scale=0.5), []
    monkeypatch.setattr(transforms, "resize", lambda picture, *args: sides.append(min(args[3][2:])) or picture)
    for seed in range(300):
        transform(_picture(transform.least_side, transform.least_side), draws(seed))
    assert 16 <= min(sides) <= 18


def _flipped(flip, said: str = "") -> set[bool]:
    brighter_to_the_right = torch.arange(16, dtype=torch.uint8).repeat(3, 16, 1)
    transform = TrainTransform(16, flip=flip)
    outs = [transform(brighter_to_the_right, draws(seed), said) for seed in range(30)]
    return {bool(out[0, 0, 0] > out[0, 0, -1]) for out in outs}


def test_flips_by_option_and_by_what_is_said() -> None:
    assert _flipped("off") == _flipped("off", "a bird") == {False}
    assert _flipped("on") == _flipped("on", "a bird on the left") == {False, True}
    assert _flipped("caption") == _flipped("caption", "a bright bird") == {False, True}
    assert _flipped("caption", "A bird on the Left.") == {False}


def test_jitter_changes_colours_and_not_the_crop() -> None:
    picture = _picture(40, 40)
    plain, jittered = (TrainTransform(16, jitter=j)(picture, draws(1)) for j in (0.0, 0.4))
    assert not torch.equal(plain, jittered)
    correlation = np.corrcoef(plain.flatten().numpy(), jittered.flatten().numpy())[0, 1]
    assert correlation > 0.9


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(50, 70), (33, 32), (20, 41), (64, 64)])
def test_evaluation_is_torchvisions_resize_and_centre_crop(interpolation, size: tuple[int, int]) -> None:
    picture, mode = _picture(*size), InterpolationMode(interpolation)
    true = TF.center_crop(TF.resize(picture, [32], interpolation=mode, antialias=True), [32, 32])
    assert torch.equal(EvalTransform(32, interpolation=interpolation)(picture), true)


def test_evaluation_keeps_a_picture_of_the_right_size() -> None:
    picture = _picture(32, 32)
    assert torch.equal(EvalTransform(32)(picture), picture)


def test_evaluation_takes_the_centre() -> None:
    picture = torch.zeros(3, 32, 96, dtype=torch.uint8)
    picture[:, :, 32:64] = 200
    assert (EvalTransform(32)(picture) == 200).all()


@pytest.mark.parametrize("scale", [0.0, -1.0, 1.5])
def test_an_impossible_scale_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="min_scale"):
        TrainTransform(16, min_scale=scale)


def test_impossible_options_are_refused() -> None:
    with pytest.raises(ValueError, match="flip='maybe'"):
        TrainTransform(16, flip="maybe")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"jitter=1\.5"):
        TrainTransform(16, jitter=1.5)
