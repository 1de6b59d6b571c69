"""Truth: every pair of captions, enumerated; what the tokenizer's marks mean."""

from collections import Counter
from itertools import combinations

import pytest

from mm_mhmoe.analysis.ambiguity import ambiguity, word_categories, words_of_pieces


@pytest.mark.parametrize("counts", [[4], [1, 1], [3, 2], [5, 1, 1, 2]])
def test_ambiguity_against_all_pairs(counts: list[int]) -> None:
    captions = [category for category, count in enumerate(counts) for _ in range(count)]
    pairs = list(combinations(captions, 2))
    expected = sum(a != b for a, b in pairs) / len(pairs)
    assert ambiguity(dict(enumerate(counts))) == pytest.approx(expected)


def test_one_caption_tells_nothing() -> None:
    with pytest.raises(ValueError, match="two captions or more, not 1"):
        ambiguity({"animals": 1})


def test_a_word_counts_once_a_caption() -> None:
    found = word_categories([(["red", "red", "card"], "cards"), (["red", "fox"], "animals"), ([], "animals")])
    assert found == {
        "red": Counter({"cards": 1, "animals": 1}),
        "card": Counter({"cards": 1}),
        "fox": Counter({"animals": 1}),
    }


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        (["▁sym", "bol", "ic", "▁boy", ",", "▁people"], [("symbolic", [0, 1, 2]), ("boy", [3]), ("people", [5])]),
        (["▁", "x", "▁(", "cat", ")"], [("x", [1]), ("cat", [3])]),
        (["▁t", "-", "shirt", "▁-", "▁"], [("t-shirt", [0, 2])]),
        (["ing", "▁7"], [("ing", [0]), ("7", [1])]),
        ([], []),
    ],
)
def test_words_of_pieces(pieces: list[str], words: list) -> None:
    assert words_of_pieces(pieces) == words
