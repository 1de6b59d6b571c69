from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mm_mhmoe_data.tokenizer import BOS, EOS, MASK, UNK, Tokenizer, train_tokenizer

from mm_mhmoe.config import TextConfig

_TEXTS = ["a red star", "a green house", "the small bird on the left", "the large tree"] * 5


def test_known_text_comes_back(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("A Large   RED bird", 64)
    assert ids[0] == BOS and ids[-1] == EOS and UNK not in ids
    assert tokenizer.decode(ids) == "a large red bird"


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=60), length=st.integers(3, 20))
def test_any_text_becomes_ids_of_the_table(tokenizer: Tokenizer, text: str, length: int) -> None:
    ids = tokenizer.encode(text, length)
    assert 2 <= len(ids) <= length
    assert (ids[0], ids[-1]) == (BOS, EOS)
    assert all(UNK <= i < len(tokenizer) for i in ids[1:-1])


def test_a_long_text_loses_its_end_only(tokenizer: Tokenizer) -> None:
    text = "red green blue star house tree small large bird"
    long = tokenizer.encode(text, 64)
    assert tokenizer.encode(text, 6) == [*long[:5], EOS]


def test_special_pieces_have_their_ids(tokenizer: Tokenizer) -> None:
    assert tokenizer.piece(MASK) == "<mask>"
    assert tokenizer.decode([BOS, EOS, MASK, len(tokenizer)]) == ""


def test_equal_texts_give_equal_bytes(tmp_path: Path) -> None:
    first = train_tokenizer(_TEXTS, tmp_path / "a", vocab_size=48)
    second = train_tokenizer(iter(_TEXTS), tmp_path / "b", vocab_size=48)
    assert first.read_bytes() == second.read_bytes()
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["tokenizer.model"]  # no temporary file stays


def test_training_is_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train_tokenizer(_TEXTS, tmp_path, vocab_size=48)
    assert capfd.readouterr() == ("", "")


def test_a_pickled_tokenizer_is_the_same(tokenizer: Tokenizer) -> None:
    other = pickle.loads(pickle.dumps(tokenizer))
    assert other.encode("a red star", 16) == tokenizer.encode("a red star", 16)


def test_a_missing_model_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"does not exist.*mm-mhmoe tokenizer train"):
        Tokenizer.load(tmp_path / "nothing")


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"not a model")
    with pytest.raises(ValueError, match="not a SentencePiece model"):
        Tokenizer.load(tmp_path)


def test_check_says_both_values(tokenizer: Tokenizer, text: TextConfig) -> None:
    tokenizer.check(replace(text, vocab_size=len(tokenizer)))
    with pytest.raises(ValueError, match=rf"text.vocab_size={len(tokenizer) - 1}, tokenizer {len(tokenizer)} pieces"):
        tokenizer.check(replace(text, vocab_size=len(tokenizer) - 1))
    with pytest.raises(ValueError, match=r"text.mask_id=9, tokenizer 4"):
        tokenizer.check(replace(text, mask_id=9))


@pytest.mark.parametrize("texts", [[], ["", "  \n"]])
def test_nothing_to_learn_from_is_refused(texts: list[str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no text to train"):
        train_tokenizer(texts, tmp_path, vocab_size=48)


def test_a_vocabulary_smaller_than_the_letters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="vocab_size=6 does not fit"):
        train_tokenizer(_TEXTS, tmp_path, vocab_size=6)
