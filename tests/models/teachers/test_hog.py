"""Truth: skimage.feature.hog (golden values by tests/golden/make_skimage_hog.py), and cases by hand."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mm_mhmoe.models.teachers import HOGTeacher
from mm_mhmoe.models.teachers.hog import cell_histograms

GOLDEN = load_file(Path(__file__).parents[2] / "golden" / "skimage_hog.safetensors")


def test_histograms_are_those_of_skimage() -> None:
    found = cell_histograms(GOLDEN["pixels"].double() / 255.0, 4)
    torch.testing.assert_close(found.float(), GOLDEN["histograms"], rtol=1e-4, atol=1e-5)
    assert (found.sum(dim=-1) == 0).any()  # the flat part has cells without any gradient


def test_a_patch_holds_its_own_cells_channels_first() -> None:
    teacher = HOGTeacher(8)
    target = teacher(GOLDEN["pixels"])
    assert target.shape == (3, 2 * 3, teacher.dim) == (3, 6, 3 * 4 * 9 + 1)
    # patch 4 is the middle one of the lower row: cells (2..3, 2..3) of the picture's 4 x 6
    cells = GOLDEN["histograms"][:, :, 2:4, 2:4].flatten(1)
    torch.testing.assert_close(target[:, 4, :-1], cells, rtol=1e-4, atol=1e-4)


def test_a_flat_patch_is_the_constant_and_an_edge_is_not() -> None:
    flat = torch.full((1, 3, 8, 8), 77, dtype=torch.uint8)
    target = HOGTeacher(8)(flat)
    assert target[..., :-1].abs().max() == 0 and target[..., -1] == 1
    # Brighter to the right: direction 0, so the first bin of the cells that touch the edge; four cells, three channels.
    edge = flat.clone()
    edge[..., 4:] = 99
    histograms = HOGTeacher(8)(edge)[0, 0, :-1].view(12, 9)
    torch.testing.assert_close(histograms, torch.eye(9)[0].expand(12, 9), rtol=1e-4, atol=1e-4)


def test_uint8_and_floats_agree() -> None:
    teacher = HOGTeacher(8)
    torch.testing.assert_close(
        teacher(GOLDEN["pixels"].float() / 127.5 - 1), teacher(GOLDEN["pixels"]), atol=1e-3, rtol=0
    )


def test_an_odd_patch_has_no_cells() -> None:
    with pytest.raises(ValueError, match="patch_size=7 is odd"):
        HOGTeacher(7)
