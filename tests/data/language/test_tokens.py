"""Truth: the texts, encoded one by one."""

from __future__ import annotations

import itertools
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from mm_mhmoe_data.language import TokenizedTexts, tokenized
from mm_mhmoe_data.language.packing import PackedTexts
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.sampling import Pick
from mm_mhmoe_data.tokenizer import BOS, EOS, Tokenizer

Made = dict[tuple[str, str], list[str]]


@pytest.fixture
def found(text_shards: Path, text_tokenizer: Tokenizer, tmp_path: Path) -> list[TokenizedTexts]:
    return tokenized(ShardDataset(text_shards, "texts"), text_tokenizer, folder=tmp_path)


def test_documents_are_begin_paragraphs_and_ends(
    found: list[TokenizedTexts], texts: Made, text_tokenizer: Tokenizer
) -> None:
    assert [part.language for part in found] == ["en", "fr", "ja"]
    for part in found:
        own = [paragraphs for (language, _), paragraphs in texts.items() if language == part.language]
        wanted = [[BOS] + [i for text in ps for i in [*text_tokenizer.encode(text, 999)[1:-1], EOS]] for ps in own]
        assert [part.document(i).tolist() for i in range(len(part.ends_D))] == wanted
        assert part.bytes == sum(len(text.encode()) + 1 for ps in own for text in ps)


def test_they_are_made_once_for_shards_and_tokenizer(text_shards: Path, text_tokenizer: Tokenizer, tmp_path: Path):
    said: list[str] = []
    dataset = ShardDataset(text_shards, "texts")
    first = tokenized(dataset, text_tokenizer, folder=tmp_path, say=said.append)
    again = tokenized(dataset, text_tokenizer, folder=tmp_path, say=said.append, languages=["fr"])
    assert len(said) == 1 and again[0].language == "fr" and len(again) == 1
    np.testing.assert_array_equal(again[0].ids_N, first[1].ids_N)
    some = ShardDataset([next(text_shards.glob("*.tar"))], "texts")
    tokenized(some, text_tokenizer, folder=tmp_path, say=said.append)
    assert len(said) == 2


def test_several_processes_write_the_same_bytes(text_shards: Path, text_tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Documents are cut between the shards; each process has some of them."""
    dataset = ShardDataset(text_shards, "texts")
    assert len(dataset.used_shards()) == 3
    for workers in (1, 2):
        tokenized(dataset, text_tokenizer, folder=tmp_path / str(workers), workers=workers)
    alone, together = (sorted((tmp_path / str(n)).glob("*/*")) for n in (1, 2))
    assert [path.name for path in alone] == [path.name for path in together] and len(alone) == 1 + 2 * 3
    assert [path.read_bytes() for path in alone] == [path.read_bytes() for path in together]


def test_a_language_that_is_not_there_is_told(text_shards: Path, text_tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"languages=\['de'\] are not in these shards; they have en, fr, ja"):
        tokenized(ShardDataset(text_shards, "texts"), text_tokenizer, folder=tmp_path, languages=["de", "en"])


def test_bytes_stand_for_letters_that_no_piece_has(text_tokenizer: Tokenizer) -> None:
    ids = text_tokenizer.encode("a house of ☃ and Æ", 64)
    assert text_tokenizer.decode(ids) == "a house of ☃ and Æ"
    assert text_tokenizer.coverage(["the house", "☃"]) == pytest.approx(11 / 12)  # each begins with the mark of a space


@pytest.mark.parametrize("length", [2, 5, 16, 64, 10_000])
@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_has_every_token_as_target_once(found: list[TokenizedTexts], length: int, shuffle: bool) -> None:
    """Truth: the documents, put together again from what the sequences say belongs together."""
    packed = PackedTexts(found, length, seed=3, shuffle=shuffle)
    orders = set()
    for epoch in range(3):
        for number, part in enumerate(found):
            first, count = packed.firsts()[number], packed.counts[number]
            rows = [packed(Pick(epoch, first + i)) for i in range(count)]
            assert all(row.language == part.language for row in rows)
            assert all(len(row.ids_L) == length for row in rows[:-1]) and 2 <= len(rows[-1].ids_L) <= length
            for before, after in itertools.pairwise(rows):
                assert before.ids_L[-1] == after.ids_L[0]
            stream = [rows[0].ids_L[0], *(i for row in rows for i in row.ids_L[1:])]
            cut = [i for i, token in enumerate(stream) if token == BOS] + [len(stream)]
            documents = [tuple(stream[a:b]) for a, b in itertools.pairwise(cut)]
            there = [tuple(part.document(i).tolist()) for i in range(len(part.ends_D))]
            assert sorted(documents) == sorted(there)
            if not shuffle:
                assert documents == there
            if part.language == "en":
                orders.add(tuple(documents))
            for row in rows:
                np.testing.assert_array_equal(np.diff(row.document_L), (row.ids_L[1:] == BOS).astype(int))
                assert row.document_L[0] == 0
    assert len(orders) == (3 if shuffle else 1)


def test_a_sequence_depends_on_seed_epoch_and_number_only(found: list[TokenizedTexts]) -> None:
    one, other = PackedTexts(found, 8, seed=1), PackedTexts(found, 8, seed=1)
    picks = [Pick(epoch, number) for epoch in range(2) for number in range(len(one))]
    there = {pick: one(pick).ids_L.tolist() for pick in picks}
    for pick in reversed(picks):
        assert other(pick).ids_L.tolist() == there[pick]
    assert any(PackedTexts(found, 8, seed=2)(pick).ids_L.tolist() != there[pick] for pick in picks)


def _make(shards: Path, tokenizer: Tokenizer, folder: Path) -> None:
    tokenized(ShardDataset(shards, "texts"), tokenizer, folder=folder)


def test_two_processes_make_them_once(text_shards: Path, text_tokenizer: Tokenizer, tmp_path: Path) -> None:
    context = get_context("fork")
    both = [context.Process(target=_make, args=(text_shards, text_tokenizer, tmp_path)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1
