"""Truth: captions and routings written down by hand."""

import pytest
import torch

from mm_mhmoe.commands.routing_record import RoutingRecord
from mm_mhmoe.commands.word_spread import ambiguous_words, word_diversity, word_points, words_with_places


def test_places_point_at_the_tokens_of_the_word(tokenizer) -> None:
    caption = "red cat, the blue one"
    found = words_with_places(tokenizer, caption, 64)
    assert [word for word, _ in found] == ["red", "cat", "the", "blue", "one"]
    ids = tokenizer.encode(caption, 64)
    for word, places in found:
        assert tokenizer.decode([ids[place] for place in places]).strip(", ") == word


def test_a_word_that_is_cut_off_is_left_out(tokenizer) -> None:
    caption = "happy clock, the happy one"
    whole = words_with_places(tokenizer, caption, 64)
    last_place = whole[-1][1][-1]
    assert words_with_places(tokenizer, caption, last_place + 2) == whole  # begin and end token have their places
    assert words_with_places(tokenizer, caption, last_place + 1) == whole[:-1]


def test_unknown_letters_are_no_words(tokenizer) -> None:
    assert [word for word, _ in words_with_places(tokenizer, "red \u4e16\u754c cat", 64)] == ["red", "cat"]


def test_ambiguity_of_the_words(dataset, tokenizer) -> None:
    found = ambiguous_words(dataset, tokenizer, field="category", fewest=2)
    assert found["cat"] == (0.0, 6) and found["car"] == (0.0, 6)
    assert found["one"] == (pytest.approx(1 - (12 * 11 * 2) / (24 * 23)), 24)
    assert "cat" not in ambiguous_words(dataset, tokenizer, field="category", fewest=7)
    assert ambiguous_words(dataset, tokenizer, field="topic", fewest=2) == {}


def test_diversity_of_the_words(tokenizer) -> None:
    """Tokens of two captions in two layers; head 1 always goes to expert 0, head 2 to the token's place in its text."""
    captions = ["red cat", "cat"]
    lengths = [len(tokenizer.encode(caption, 64)) for caption in captions]
    place_T = torch.cat([torch.arange(length) for length in lengths])
    spread_TH = torch.stack([torch.zeros_like(place_T), place_T], dim=1)  # 2 different ones everywhere but at 0
    same_TH = torch.zeros_like(spread_TH)
    same_TH[lengths[0] :, 1] = 1  # the second caption differs
    record = RoutingRecord(sums={}, image_TH={}, text_TH={1: spread_TH, 3: same_TH}, ids_T=place_T)
    found = word_diversity(record, captions, tokenizer, 64, num_experts=20)
    assert found == {"red": pytest.approx((2 + 1) / 2), "cat": pytest.approx(((2 + 1) / 2 + (2 + 2) / 2) / 2)}


def test_correlation_over_words() -> None:
    words = {f"w{i}": (i / 20, 5 + i % 3) for i in range(20)} | {"unseen": (0.5, 9)}
    rising = word_points(words, {f"w{i}": 1 + i**2 for i in range(20)} | {"rare": 3.0}, seed=0)
    assert rising is not None and len(rising.words) == 20 and rising.correlation == pytest.approx(1.0)
    assert rising.interval == pytest.approx((1.0, 1.0)) and rising.partial == pytest.approx(1.0)
    mixed = word_points(words, {f"w{i}": (i * 7) % 20 for i in range(20)}, seed=0)
    assert mixed is not None and mixed.interval[0] < mixed.correlation < mixed.interval[1] < 1.0
    assert mixed == word_points(words, {f"w{i}": (i * 7) % 20 for i in range(20)}, seed=0)


def test_few_words_have_no_correlation() -> None:
    assert word_points({"a": (0.1, 5)}, {"a": 2.0}, seed=0) is None
