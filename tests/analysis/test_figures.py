"""Truth: what is drawn, read back from the axes; a PNG that opens, with its caption's room below it."""

import io

import pytest
import torch
from PIL import Image

from mm_mhmoe.analysis.figures.diversity import (
    Course,
    KindDiversity,
    WordPoints,
    against_ambiguity,
    by_kind,
    over_training,
)
from mm_mhmoe.analysis.figures.load import activation, expert_load
from mm_mhmoe.analysis.figures.maps import assignment_maps
from mm_mhmoe.analysis.figures.style import Drawing, expert_colours, ink_on, ordered_colours, render

LOADS = {
    "a": {
        "image": {1: torch.tensor([4, 4, 0, 0]), 3: torch.tensor([3, 3, 1, 1])},
        "text": {1: torch.tensor([2, 2, 2, 2]), 3: torch.tensor([1, 1, 3, 3])},
    },
    "b": {"image": {3: torch.tensor([1, 1])}, "text": {3: torch.tensor([0, 8])}},
}


def opened(drawing: Drawing) -> Image.Image:
    picture = Image.open(io.BytesIO(render(drawing)))
    picture.load()
    assert picture.format == "PNG"
    return picture


def texts(axis) -> list[str]:
    return [text.get_text() for text in axis.texts]


def test_activation_draws_the_shares() -> None:
    drawing = activation(LOADS, threshold=0.75, sweep=(0.5, 1.5))
    image, text, swept = drawing.figure.axes
    heights = [[bar.get_height() for bar in bars] for bars in image.containers]
    assert heights == [[0.5, 0.5], [1.0]]  # 3 of a mean of 2 counts, 1 does not
    assert [[bar.get_height() for bar in bars] for bars in text.containers] == [[1.0, 0.5], [0.5]]
    # Both modalities together: a has 6, 6, 2, 2 and 4, 4, 4, 4; b has 1, 9.
    assert [list(line.get_ydata()) for line in swept.lines[:2]] == [[(0.5 + 1) / 2, 0.0], [0.5, 0.5]]
    assert "0.75 times" in drawing.caption and opened(drawing).width == 1200


def test_models_of_one_layer_stand_at_that_layer() -> None:
    image = activation(LOADS, threshold=0.5, sweep=(0.5,)).figure.axes[0]
    ticks = [tick.get_text() for tick in image.get_xticklabels()]
    ((only,),) = [tuple(bars) for bars in image.containers[1:]]
    assert ticks == ["2", "4"] and ticks[round(only.get_x() + only.get_width() / 2)] == "4"


def test_load_is_in_even_loads() -> None:
    drawing = expert_load(LOADS)
    assert texts(drawing.figure.axes[0]) == ["2.0", "2.0", "0.0", "0.0", "1.5", "1.5", "0.5", "0.5"]
    assert texts(drawing.figure.axes[3]) == ["0.0", "2.0"]
    opened(drawing)


def test_experts_of_pairs_stand_beside_those_of_single_streams() -> None:
    """Two pools in layer 2, and in layer 4 one of pairs more; a second model has one pool a layer."""
    pools = {
        "image": {
            (1, "image"): torch.tensor([4, 4]),
            (3, "image"): torch.tensor([3, 1]),
            (3, "pair"): torch.tensor([0, 8]),
        },
        "text": {(1, "text"): torch.tensor([2, 2]), (3, "pair"): torch.tensor([6, 2])},
    }
    loads = {"m": pools, "one": {"image": {3: torch.tensor([1, 1, 6, 0])}, "text": {3: torch.tensor([1, 1, 1, 1])}}}
    drawing = activation(loads, threshold=0.5, sweep=(0.5, 1.25))
    image, text, swept = drawing.figure.axes
    assert [tick.get_text() for tick in image.get_xticklabels()] == ["2", "4", "4\npairs"]
    assert [tick.get_text() for tick in text.get_xticklabels()] == ["2", "4", "4\npairs"]
    assert [[bar.get_height() for bar in bars] for bars in image.containers] == [[1.0, 0.5, 0.5], [0.25]]
    assert [[bar.get_height() for bar in bars] for bars in text.containers] == [[1.0, 0.5], [1.0]]
    # m: (4, 4), (3, 1), (2, 2) and of all pairs (6, 10): no more than 1.25 even loads; one: (2, 2, 7, 1).
    assert [list(line.get_ydata()) for line in swept.lines[:2]] == [
        [(1 + 1 + 0.5 + 1) / 4, 0.5 / 4],
        [0.75, 0.25],
    ]
    heat = expert_load(loads)
    assert texts(heat.figure.axes[0]) == ["1.0", "1.0", "1.5", "0.5", "0.0", "2.0"]
    assert [tick.get_text() for tick in heat.figure.axes[0].get_yticklabels()] == [
        "layer 2",
        "layer 4",
        "layer 4 pairs",
    ]
    for made in (drawing, heat):
        opened(made)


def test_maps_show_every_head_and_what_differs() -> None:
    first_HN = torch.tensor([[0, 1, 2, 3], [0, 1, 0, 0]])
    pixels = torch.zeros(3, 8, 8, dtype=torch.uint8)
    drawing = assignment_maps([("a cat", pixels, first_HN)], num_experts=4, layer=6, name="m")
    picture, head_1, head_2, different = drawing.figure.axes
    assert picture.get_title() == "a cat"
    assert texts(head_1) == ["0", "1", "2", "3"] and texts(head_2) == ["0", "1", "0", "0"]
    assert texts(different) == ["1", "1", "2", "2"] and different.get_title() == "different: 1.5"
    opened(drawing)


def test_maps_of_many_heads_experts_and_patches() -> None:
    first_HN = torch.arange(12 * 196).view(12, 196) % 64
    pixels = torch.zeros(3, 8, 8, dtype=torch.uint8)
    drawing = assignment_maps([("a " * 50, pixels, first_HN)], num_experts=64, layer=6, name="m")
    assert len(drawing.figure.axes) == 10 and texts(drawing.figure.axes[1]) == []  # too small to read
    opened(drawing)


def test_diversity_by_kind() -> None:
    whole = KindDiversity({"cls": 3.0, "patch": 2.0, "word": 1.5}, {"cls": 3.1, "patch": 2.2, "word": 1.4}, 3.3)
    texts_only = KindDiversity({"word": 1.25}, {"word": 1.3}, 2.0)
    (axis,) = by_kind({"a": whole, "b": texts_only}).figure.axes
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["[CLS]", "patches", "words"]
    assert [[bar.get_height() for bar in bars] for bars in axis.containers] == [[3.0, 2.0, 1.5], [1.25]]
    assert texts(axis) == ["3.00", "2.00", "1.50", "1.25"]
    assert sorted(line.get_ydata()[0] for line in axis.lines) == [2.0, 3.3]


def test_words_and_their_correlation() -> None:
    points = WordPoints(["red", "of"], [0.9, 0.1], [2.0, 3.0], [7, 40], -0.5, (-0.75, 0.25), -0.4)
    drawing = against_ambiguity({"a": points, "b": points})
    first, _ = drawing.figure.axes
    assert first.collections[0].get_offsets().tolist() == [[0.9, 2.0], [0.1, 3.0]]
    assert "-0.50 (95%: -0.75 to +0.25)" in first.get_title() and set(texts(first)) == {"red", "of"}
    opened(drawing)


def test_course_of_training() -> None:
    course = Course(points={"text": [(0, 3.0), (19, 2.5)]}, uniform=3.3)
    (axis,) = over_training({"a": course}).figure.axes
    assert axis.get_title() == "text tokens"
    assert list(axis.lines[0].get_xdata()) == [1, 20] and list(axis.lines[0].get_ydata()) == [3.0, 2.5]
    assert axis.lines[1].get_ydata()[0] == 3.3


def test_a_caption_gets_room_of_its_own() -> None:
    heights = []
    for caption in ("short", "a long sentence. " * 40):
        drawing = activation(LOADS, threshold=0.5, sweep=(0.5,))
        picture = opened(Drawing(drawing.figure, caption))
        heights.append(picture.height)
        assert min(picture.convert("L").crop((0, 0, 4, picture.height)).getdata()) == 255  # nothing is cut off left
        edge = picture.convert("L").crop((picture.width - 3, 0, picture.width, picture.height))
        assert min(edge.getdata()) == 255  # nor right
    assert heights[1] > heights[0] + 60


@pytest.mark.parametrize("count", [1, 8, 9, 64])
def test_experts_have_colours_of_their_own(count: int) -> None:
    assert len(set(expert_colours(count))) == len(set(ordered_colours(count))) == count


def test_ink_can_be_read() -> None:
    assert ink_on("#000000") == "white" and ink_on("#F0E442") == "black"
