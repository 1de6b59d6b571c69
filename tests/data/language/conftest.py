"""Small shards of texts in three languages, and a tokenizer trained on them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mm_mhmoe_data.shards import Sample, write_shards
from mm_mhmoe_data.tokenizer import Tokenizer, train_tokenizer

WORDS = {
    "en": ["the", "house", "of", "a", "king", "and", "his", "people", "in", "the", "land"],
    "fr": ["la", "maison", "du", "roi", "et", "son", "peuple", "dans", "le", "pays"],
    "ja": ["王", "家", "民", "地", "の", "と"],
}
PARAGRAPHS = {"en": (2, 3, 1, 4, 2, 5, 1, 3), "fr": (1, 2, 4), "ja": (2,)}
"""Numbers of paragraphs of each document."""


def made_texts() -> dict[tuple[str, str], list[str]]:
    """Paragraphs by language and document."""
    rng = np.random.default_rng(0)
    return {
        (language, f"page{number}"): [
            " ".join(rng.choice(WORDS[language], size=int(rng.integers(3, 12)))) for _ in range(count)
        ]
        for language, counts in PARAGRAPHS.items()
        for number, count in enumerate(counts)
    }


def text_samples(texts: dict[tuple[str, str], list[str]]) -> list[Sample]:
    samples = []
    for (language, name), paragraphs in texts.items():
        for number, text in enumerate(paragraphs):
            facts = {"language": language, "id": name, "paragraph": f"{name}/{number:04d}"}
            parts = {"txt": text.encode(), "json": json.dumps(facts).encode()}
            samples.append(Sample(key=f"{len(samples):09d}", parts=parts))
    return samples


@pytest.fixture(scope="session")
def texts() -> dict[tuple[str, str], list[str]]:
    return made_texts()


@pytest.fixture(scope="session")
def text_shards(tmp_path_factory: pytest.TempPathFactory, texts: dict[tuple[str, str], list[str]]) -> Path:
    """Three shards, between which documents are cut."""
    out = tmp_path_factory.mktemp("texts")
    write_shards(text_samples(texts), out, 0, 11)
    return out


@pytest.fixture(scope="session")
def text_tokenizer(tmp_path_factory: pytest.TempPathFactory, texts: dict[tuple[str, str], list[str]]) -> Tokenizer:
    lines = [text for paragraphs in texts.values() for text in paragraphs]
    out = tmp_path_factory.mktemp("tokenizer")
    return Tokenizer.load(train_tokenizer(lines, out, vocab_size=330, normalization="nmt_nfkc", byte_fallback=True))
