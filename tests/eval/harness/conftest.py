"""Tokenizers: a token a word (w5 to w39), a token a byte, and SentencePiece."""

from __future__ import annotations

import pytest
from mm_mhmoe_data.tokenizer import Tokenizer, train_tokenizer

LINES = [
    "the package manager installs packages",
    "a package has a name and a version",
    "the manager asks the user for a name",
    "versions of packages are compared by the manager",
]


class Words:
    """The tokenizer of tests/golden/make_lm_eval.py."""

    def encode_all(self, texts) -> list[list[int]]:
        return [[int(word[1:]) for word in text.split()] for text in texts]

    def decode(self, ids) -> str:
        return " ".join(f"w{index}" for index in ids if index > 4)

    def __len__(self) -> int:
        return 40


@pytest.fixture
def words() -> Words:
    return Words()


@pytest.fixture(scope="session")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """SentencePiece as language models have it: bytes for what no piece has."""
    out = tmp_path_factory.mktemp("pieces")
    return Tokenizer.load(
        train_tokenizer(
            LINES, out, vocab_size=320, normalization="nmt_nfkc", character_coverage=1.0, byte_fallback=True
        )
    )
