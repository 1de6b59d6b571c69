"""Documents in three languages, as shards too, and a tokenizer of bytes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mm_mhmoe_data.language import Document
from mm_mhmoe_data.shards import Sample, write_shards
from mm_mhmoe_eval.kinds import ScoredData


class Bytes:
    """A token a byte, from 5 on."""

    def encode_all(self, texts) -> list[list[int]]:
        return [[5 + byte for byte in text.encode()] for text in texts]

    def __len__(self) -> int:
        return 261


def make_documents(languages=("de-DE", "en-US", "fr-FR"), pages=4, paragraphs=5) -> list[Document]:
    """Page p of language l: a title, then paragraphs of words that no other has."""
    found = []
    for language in languages:
        rng = np.random.default_rng(len(found))
        for page in range(pages):
            texts = [f"{language} title {page}"]
            for number in range(1, paragraphs):
                letters = rng.integers(97, 123, size=int(rng.integers(40, 60)), dtype=np.uint8).tobytes().decode()
                texts.append(f"{language} {page} {number} {letters}")
            facts = [
                {"language": language, "id": f"p{page}", "paragraph": f"p{page}/{n}", "kind": "para" if n else "title"}
                for n in range(paragraphs)
            ]
            found.append(Document(language, f"p{page}", tuple(texts), tuple(facts)))
    return found


@pytest.fixture
def documents() -> list[Document]:
    return make_documents()


@pytest.fixture
def data(tmp_path: Path, documents: list[Document]) -> ScoredData:
    """The documents as shards."""
    pairs = [pair for document in documents for pair in zip(document.paragraphs, document.facts, strict=True)]
    samples = [
        Sample(key=f"{n:09d}", parts={"txt": text.encode(), "json": json.dumps(facts).encode()})
        for n, (text, facts) in enumerate(pairs)
    ]
    write_shards(samples, tmp_path, 0, 25)
    return ScoredData(
        paths={"test": tmp_path}, tokenizer=Bytes(), batch_size=7, limit=None, device="cpu", options={"languages": ""}
    )
