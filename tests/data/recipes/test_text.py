"""Truth: the same texts read whole by hand. All are made up, except a verse; layouts are those of the real files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mm_mhmoe_data.recipes.text import plan_text
from mm_mhmoe_data.recipes.text_source import Document, TextSource, find_pieces

SPLITS = ("train", "val", "test")


def wiki(number: int) -> dict[str, str]:
    title = f"Title {number}"
    text = f"{title}\n\nÖrtliche first paragraph {number}.\n\n\nSecond paragraph {number}."
    return {"id": str(number), "url": f"https://x.org?curid={number}", "title": title, "text": text}


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    """WikiExtractor's output: two folders of files, a JSON object a line."""
    for folder in ("AA", "AB"):
        (tmp_path / "dump" / folder).mkdir(parents=True)
    for number in range(60):
        name = f"A{'AB'[number // 30]}/wiki_{number % 30 // 10:02d}"
        with (tmp_path / "dump" / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(wiki(number), ensure_ascii=number % 2 == 0) + "\n")
    return tmp_path / "dump"


def test_every_article_is_in_one_split_whole(dump: Path, build) -> None:
    built = build(plan_text(dump, layout="wikiextractor", val=0.2, test=0.2, language="xx", licence="CC-BY-SA"))
    found = {}
    for split in SPLITS:
        for fact, text in zip(built.facts(split), built.texts(split), strict=True):
            assert fact["id"] not in found
            found[fact["id"]] = text
            assert fact["url"].endswith(fact["id"]) and fact["title"] == f"Title {fact['id']}"
            assert fact["language"] == "xx" and fact["licence"] == "CC-BY-SA"
    assert found == {str(n): f"Örtliche first paragraph {n}.\nSecond paragraph {n}." for n in range(60)}
    assert all(built.texts(split) for split in SPLITS)


def test_paragraphs_of_an_article_stay_together(dump: Path, build) -> None:
    built = build(plan_text(dump, layout="wikiextractor", unit="paragraph", val=0.2, test=0.2))
    ids = {split: {fact["id"] for fact in built.facts(split)} for split in SPLITS}
    assert sum(len(built.texts(split)) for split in SPLITS) == 120
    assert not ids["train"] & ids["val"] | ids["train"] & ids["test"] | ids["val"] & ids["test"]
    assert {fact["paragraph"] for fact in built.facts("train")} == {0, 1}


@pytest.mark.parametrize("piece_bytes", [1, 7, 100, 331, 10_000])
def test_lines_are_whole_wherever_a_file_is_cut(dump: Path, piece_bytes: int) -> None:
    source = TextSource(root=dump, layout="wikiextractor")
    pieces = find_pieces(dump, "wikiextractor", piece_bytes)
    read = [document.id for piece in pieces for document in source.read(piece) if isinstance(document, Document)]
    assert read == [str(number) for number in range(60)]


def test_small_shards_hold_the_same_samples(dump: Path, build) -> None:
    large = build(plan_text(dump, layout="wikiextractor", test=0.2), "large")
    small = build(plan_text(dump, layout="wikiextractor", test=0.2, shard_bytes=1500), "small")
    for split in SPLITS:
        assert small.texts(split) == large.texts(split)
    assert len(small.manifest["splits"]["train"]["shards"]) > 3 * len(large.manifest["splits"]["train"]["shards"])


def test_bad_lines_are_named_once(tmp_path: Path, build) -> None:
    lines = [
        b'{"body": "fine", "id": 7}',
        b'{"body": "cut of',
        b"[]",
        b'{"text": "elsewhere"}',
        b'{"body": " "}',
        b'{"\xff"}',
        b"",
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    built = build(plan_text(tmp_path / "a.jsonl", layout="jsonl", text_field="body", val=0.3, test=0.3))
    starts = [sum(len(line) + 1 for line in lines[:number]) for number in range(len(lines))]
    assert [(drop["reason"], drop["what"]) for drop in built.dropped] == [
        ("line is not JSON", f"a.jsonl, byte {starts[1]}"),
        ("no text in the field 'body'", f"a.jsonl, byte {starts[2]}"),
        ("no text in the field 'body'", f"a.jsonl, byte {starts[3]}"),
        ("empty text", f"a.jsonl, byte {starts[4]}"),
        ("not UTF-8", f"a.jsonl, byte {starts[5]}"),
    ]
    splits = {split: values["samples"] for split, values in built.manifest["splits"].items()}
    assert sum(splits.values()) == 1


def test_half_characters_of_json_do_not_stop_a_build(tmp_path: Path, build) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "A half \\ud83d and a whole \\ud83d\\ude00", "id": "\\ud83d"}\n')
    built = build(plan_text(tmp_path / "a.jsonl", layout="jsonl", val=0.0, test=0.0))
    assert built.texts("train") == ["A half ? and a whole \U0001f600"] and built.facts("train")[0]["id"] == "?"


def test_plain_files_are_documents_of_paragraphs(tmp_path: Path, build) -> None:
    root = tmp_path / "texts"
    (root / "deep").mkdir(parents=True)
    (root / "b.txt").write_bytes(b"\xef\xbb\xbfOne line\r\nand  another.\r\n \r\n\r\nLast.\r\n")
    (root / "deep/a.txt").write_text("Alone.")
    (root / "blank.txt").write_text("\n\n")
    (root / "empty.txt").write_text("")
    (root / "latin.txt").write_bytes(b"caf\xe9")
    (root / "passed over.md").write_text("# no")
    built = build(plan_text(root, val=0.0, test=0.0), "whole")
    assert built.texts("train") == ["One line and another.\nLast.", "Alone."]
    assert [fact["id"] for fact in built.facts("train")] == ["b.txt", "deep/a.txt"]
    assert [(drop["what"], drop["reason"]) for drop in built.dropped] == [
        ("blank.txt", "empty text"),
        ("empty.txt", "empty text"),
        ("latin.txt", "not UTF-8"),
    ]
    built = build(plan_text(root, unit="paragraph", val=0.0, test=0.0), "paragraphs")
    assert built.texts("train") == ["One line and another.", "Last.", "Alone."]


def test_verses_of_a_chapter_stay_together(tmp_path: Path, build) -> None:
    chapters = [f"{book}{chapter}" for book in ("Ge", "1Sa") for chapter in range(1, 31)]
    lines = [f"{chapter}:{verse} Verse: {verse}." for chapter in chapters for verse in (1, 2)]
    (tmp_path / "kjv.txt").write_text("\n".join([*lines, "no verse", "Jn11:35 Jesus wept."]) + "\n")
    built = build(plan_text(tmp_path / "kjv.txt", layout="kjv", val=0.2, test=0.2))
    ids = {split: [fact["id"] for fact in built.facts(split)] for split in SPLITS}
    assert sorted(name for split in SPLITS for name in ids[split]) == sorted([*chapters, *chapters, "Jn11"])
    assert not set(ids["train"]) & set(ids["test"]) and ids["val"] and ids["test"]
    assert "Jesus wept." in [text for split in SPLITS for text in built.texts(split)]
    assert [drop["reason"] for drop in built.dropped] == ["not a verse such as 'Ge1:1 In the beginning'"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"val": 1.0}, "val=1.0"),
        ({"shard_bytes": 10}, "shard_bytes=10"),
        ({"layout": "jsonl"}, r"no files of layout jsonl. Looked for \*.jsonl"),
        ({}, "no files of layout txt"),
    ],
)
def test_unusable_arguments_are_named(tmp_path: Path, change: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        plan_text(tmp_path, **change)  # type: ignore[arg-type]
