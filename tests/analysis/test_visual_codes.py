"""Truth: what is drawn, read back from the axes of the figure. Pictures and codes are random."""

import io

import pytest
import torch
from matplotlib.axes import Axes
from PIL import Image

from mm_mhmoe.analysis.code_usage import CodeReport
from mm_mhmoe.analysis.figures.style import Drawing, render
from mm_mhmoe.analysis.figures.visual_codes import PictureCodes, visual_codes

COUNTS = torch.tensor([0, 5, 1, 0, 12])
REPORT = CodeReport(patches=18, num_codes=5, used=3, perplexity=2.2, cosine=0.75, one_code_cosine=0.5)


def drawing(*, decoded: bool, courses=None) -> Drawing:
    torch.manual_seed(0)
    pictures = [
        PictureCodes(
            picture_3HW=torch.rand(3, 8, 8),
            averages_3HW=torch.rand(3, 8, 8),
            decoded_3HW=torch.rand(3, 8, 8) if decoded else None,
            codes_hw=torch.randint(0, 5, (2, 2)),
            cosine_hw=torch.rand(2, 2),
        )
        for _ in range(3)
    ]
    return visual_codes(pictures, COUNTS, REPORT, courses or {})


def titled(figure: Drawing) -> dict[str, Axes]:
    return {axis.get_title(): axis for axis in figure.figure.axes if axis.get_title()}


@pytest.mark.parametrize("decoded", [False, True])
def test_a_column_a_picture_and_a_row_for_each_view(decoded: bool) -> None:
    found = drawing(decoded=decoded)
    images = [
        axis for axis in found.figure.axes if axis.images and axis.images[0].get_array().shape[:2] in [(8, 8), (2, 2)]
    ]
    assert len(images) == 3 * (5 if decoded else 4)
    names = [axis.get_ylabel() for axis in found.figure.axes if axis.get_ylabel()]
    assert ("decoder" in names) == decoded


def test_use_is_sorted_and_curves_are_those_of_the_logs() -> None:
    found = titled(
        drawing(decoded=False, courses={"train/codes_in_batch": [(10, 0.2), (20, 0.9)], "train/distance": []})
    )
    assert list(found) == ["patches of each code", "part of the codes in a batch"]
    line, even = found["patches of each code"].lines
    assert line.get_ydata().tolist() == [12, 5, 1] and even.get_ydata()[0] == pytest.approx(18 / 5)
    (course,) = found["part of the codes in a batch"].lines
    assert list(course.get_xdata()) == [10, 20] and list(course.get_ydata()) == [0.2, 0.9]


def test_it_renders_with_the_numbers_below() -> None:
    found = drawing(decoded=True)
    for part in ("3 of 5 codes (60%)", "18 patches", "0.750", "0.500"):
        assert part in found.caption
    assert Image.open(io.BytesIO(render(found))).width > 500
