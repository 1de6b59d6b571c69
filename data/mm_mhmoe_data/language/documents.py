"""Samples of text shards put together to documents."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import groupby
from typing import Any, NamedTuple

from mm_mhmoe_data.pipeline import ShardDataset

MAX_TEXT_BYTES = 64 << 20


class Document(NamedTuple):
    """Paragraphs that follow each other.

    language:   as the samples' .json says it ("fr-FR"); empty where it says nothing.
    id:         as the samples' .json says it, else the key of the only sample.
    paragraphs: their texts, without empty ones.
    facts:      the .json of the sample that each paragraph is from.
    """

    language: str
    id: str
    paragraphs: tuple[str, ...]
    facts: tuple[dict[str, Any], ...]


class _Paragraph(NamedTuple):
    document: tuple[str, str]
    text: str
    facts: dict[str, Any]


def read_documents(dataset: ShardDataset, languages: Collection[str] | None = None) -> Iterator[Document]:
    """The documents in the order of the shards: a run of samples with the same `language` and `id` in their .json is
    one, whose paragraphs are the lines of their texts.

    Args:
        languages: only those; None: all.

    Raises:
        SampleError: a sample cannot be read.
    """
    wanted = None if languages is None else set(languages)
    for (language, name), run in groupby(_paragraphs(dataset, wanted), key=lambda paragraph: paragraph.document):
        _, texts, facts = zip(*run, strict=True)
        yield Document(language, name, texts, facts)


def _paragraphs(dataset: ShardDataset, languages: set[str] | None) -> Iterator[_Paragraph]:
    for index in range(len(dataset)):
        facts = dataset.metadata(index)
        language = str(facts.get("language", ""))
        if languages is not None and language not in languages:
            continue
        document = language, str(facts.get("id", dataset.keys[index]))
        for line in dataset.caption(index, MAX_TEXT_BYTES).splitlines():
            if text := line.strip():
                yield _Paragraph(document, text, facts)
