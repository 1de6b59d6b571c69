"""Truth: the texts that the shards were made of."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from mm_mhmoe_data.language import balanced_paragraphs, read_documents
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.shards import Sample, write_shards

Made = dict[tuple[str, str], list[str]]


def test_paragraphs_of_one_document_come_together(text_shards: Path, texts: Made) -> None:
    found = list(read_documents(ShardDataset(text_shards, "texts")))
    assert [(d.language, d.id, list(d.paragraphs)) for d in found] == [(*name, made) for name, made in texts.items()]
    assert [fact["paragraph"] for fact in found[0].facts] == ["page0/0000", "page0/0001"]


def test_only_the_languages_that_are_wanted(text_shards: Path) -> None:
    found = read_documents(ShardDataset(text_shards, "texts"), ["fr", "ja"])
    assert Counter(document.language for document in found) == {"fr": 3, "ja": 1}


def test_lines_are_paragraphs_and_samples_without_facts_documents(tmp_path: Path) -> None:
    parts = [{"txt": "one\n\n two \nthree"}, {"txt": "four", "json": json.dumps({"id": "x"})}, {"txt": "five"}]
    samples = [Sample(key=f"{i:03d}", parts={k: v.encode() for k, v in p.items()}) for i, p in enumerate(parts)]
    write_shards(samples, tmp_path, 0, 10)
    found = [(d.language, d.id, d.paragraphs) for d in read_documents(ShardDataset(tmp_path, "texts"))]
    assert found == [("", "000", ("one", "two", "three")), ("", "x", ("four",)), ("", "002", ("five",))]


def test_texts_are_longer_than_captions_may_be(tmp_path: Path) -> None:
    write_shards([Sample(key="000", parts={"txt": b"long " * 20_000})], tmp_path, 0, 10)
    (document,) = read_documents(ShardDataset(tmp_path, "texts"))
    assert len(document.paragraphs[0]) == 99_999


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_a_balanced_sample(text_shards: Path, texts: Made, exponent: float) -> None:
    """Truth: XLM's formula on the numbers of paragraphs."""
    there: Counter[str] = Counter()
    for (language, _), paragraphs in texts.items():
        there[language] += len(paragraphs)
    total = sum(there.values())
    weight = {language: (count / total) ** exponent for language, count in there.items()}
    found = balanced_paragraphs(ShardDataset(text_shards, "texts"), exponent)
    wanted = {language: round(total * w / sum(weight.values())) for language, w in weight.items()}
    assert {language: len(some) for language, some in found.items()} == wanted
    for language, some in found.items():
        lines = Counter(text for (own, _), paragraphs in texts.items() if own == language for text in paragraphs)
        drawn = Counter(some)
        assert set(drawn) <= set(lines)
        assert max(drawn.values()) <= -(-len(some) // there[language]) * max(lines.values())
