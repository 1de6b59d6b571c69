"""Truth: the inverse of the teacher is the picture itself."""

import pytest
import torch

from mm_mhmoe.models.teachers.pixels import PixelTeacher
from mm_mhmoe.nn import patchify


@pytest.mark.parametrize("scale", [0.01, 0.5, 1.0, 7.0])
def test_pixels_inverts_the_teacher_at_any_length(scale: float) -> None:
    teacher = PixelTeacher(4)
    pixels = torch.rand(2, 3, 8, 8) * 2 - 1
    target = teacher(pixels)
    assert target.shape == (2, 4, teacher.dim) == (2, 4, 49)
    torch.testing.assert_close(teacher.pixels(scale * target), patchify(pixels, 4))


def test_uint8_and_floats_agree() -> None:
    pixels = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    teacher = PixelTeacher(4)
    assert torch.equal(teacher(pixels), teacher(pixels.float() / 127.5 - 1))


def test_grey_and_white_are_different_directions() -> None:
    teacher = PixelTeacher(4)
    grey, white = teacher(torch.full((1, 3, 4, 4), 0.2)), teacher(torch.ones(1, 3, 4, 4))
    # the constant squared is 48 / 16 = 3: cos = (0.2 * 48 + 3) / sqrt((0.04 * 48 + 3) * (48 + 3))
    cosine = torch.nn.functional.cosine_similarity(grey, white, dim=-1).item()
    assert cosine == pytest.approx(12.6 / (4.92 * 51) ** 0.5, abs=1e-5) and cosine < 0.9


def test_a_prediction_without_a_constant_stays_in_range() -> None:
    drawn = PixelTeacher(4).pixels(torch.cat([torch.randn(1, 4, 48), torch.full((1, 4, 1), -1.0)], dim=-1))
    assert drawn.isfinite().all() and drawn.abs().max() <= 1.0
