from __future__ import annotations

import pytest
from mm_mhmoe_data.vqa_normalise import CONTRACTIONS, normalise, normalise_punctuation, normalise_words

# Worked by hand from the rules of the official code: a mark beside a space (or any mark, when a comma stands
# between digits) is removed, another mark becomes a space, a period goes unless a digit follows it.
PUNCTUATION = [
    ("red, white", "red white"),
    ("red,white", "red white"),
    ("1,000", "1000"),
    ("1,000/day", "1000day"),
    ("black/white", "black white"),
    ("black / white", "black  white"),
    ("t-shirt", "t shirt"),
    ("yes!", "yes "),
    ("3.5", "3.5"),
    ("mr. x", "mr x"),
    ("u.s.a.", "usa"),
    (".5", ".5"),
    ("it's", "it's"),
    ("10:30", "10:30"),
    ("a-b - c", "ab  c"),
]

WORDS = [
    ("Two", "2"),
    ("none", "0"),
    ("the red   car", "red car"),
    ("An apple a day", "apple day"),
    ("dont know", "don't know"),
    ("youre", "you're"),
    ("couldnt've", "couldn't've"),
    ("couldn'tve", "couldn't've"),
    ("somebody'd", "somebodyd"),
    ("eleven", "eleven"),
    ("its", "its"),
    ("yall'd've", "y'all'd've"),
    ("Ive", "ive"),
]


@pytest.mark.parametrize(("answer", "expected"), PUNCTUATION)
def test_punctuation(answer: str, expected: str) -> None:
    assert normalise_punctuation(answer) == expected


@pytest.mark.parametrize(("answer", "expected"), WORDS)
def test_words(answer: str, expected: str) -> None:
    assert normalise_words(answer) == expected


def test_both() -> None:
    assert normalise("The two t-shirts!") == "2 t shirts"


def test_only_32_periods_go() -> None:
    assert normalise_punctuation("." * 40) == "." * 8


def test_contraction_table() -> None:
    # The official table (GT-Vision-Lab/VQA, commit a013f00) has 120 entries; it was compared and is equal.
    assert len(CONTRACTIONS) == 120
    for short, full in CONTRACTIONS.items():
        if short not in ("somebody'd", "let's", "she's"):
            assert short.replace("'", "") == full.replace("'", "")
            assert short.count("'") == full.count("'") - 1
