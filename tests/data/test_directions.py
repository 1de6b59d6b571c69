"""Truth: sentences that a person has read."""

from __future__ import annotations

import pytest
from mm_mhmoe_data.directions import says_direction


@pytest.mark.parametrize("text", ["a bird on the left", "Left: a bird", "the RIGHT-hand side", "turn right."])
def test_english_directions_are_found(text: str) -> None:
    assert says_direction(text)


@pytest.mark.parametrize("text", ["", "a bright star", "lefts", "copyright", "two cleft hoofs", "the top"])
def test_parts_of_words_are_none(text: str) -> None:
    assert not says_direction(text)


def test_other_languages_by_their_words() -> None:
    assert says_direction("ein Vogel auf der LINKEN Seite", ["links", "linken"])
    assert not says_direction("a bird on the left", ["links", "linken"])
    assert says_direction("猫在左边", ["左", "右"]) and not says_direction("猫在上边", ["左", "右"])
    assert not says_direction("left", [])
