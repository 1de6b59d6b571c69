"""Truth: the table and the folders as they were written. Pictures and captions are made up."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from mm_mhmoe_data.recipes.folder import plan_folder

SPLITS = ("train", "val", "test")
ROWS = [
    ("cat/0.jpg", "A cat.", "train"),
    ("cat/1.png", 'A "cat", again.\nWith a second line.', "val"),
    ("dog/0.jpg", "A dog.", "test"),
    ("cat/0.jpg", "The same cat.", "train"),
    ("dog/1.jpg", "", "train"),
    ("dog/broken.jpg", "Broken.", "train"),
    ("dog/gone.jpg", "Gone.", "train"),
    ("../secret.jpg", "Not for you.", "train"),
    ("", "Nowhere.", "train"),
]


@pytest.fixture
def root(tmp_path: Path, draw) -> Path:
    for seed, name in enumerate(("cat/0.jpg", "cat/1.png", "dog/0.jpg", "dog/1.jpg", "../secret.jpg")):
        draw(tmp_path / "pictures" / name, seed)
    (tmp_path / "pictures/dog/broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    return tmp_path / "pictures"


def write_csv(path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",").writerows(
            [("image", "caption", "part"), *ROWS]
        )


def write_jsonl(path: Path) -> None:
    rows = [{"image": image, "caption": caption or None, "part": part, "more": 1} for image, caption, part in ROWS]
    path.write_text("".join(f"{json.dumps(row)}\n\n" for row in rows))


def write_parquet(path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    columns = dict(zip(("image", "caption", "part"), map(list, zip(*ROWS, strict=True)), strict=True))
    __import__("pyarrow.parquet").parquet.write_table(pyarrow.table(columns), path)


@pytest.mark.parametrize(
    ("name", "write"),
    [("c.csv", write_csv), ("c.tsv", write_csv), ("c.jsonl", write_jsonl), ("c.parquet", write_parquet)],
)
def test_captions_from_a_table(root: Path, tmp_path: Path, build, name: str, write) -> None:
    write(tmp_path / name)
    built = build(plan_folder(root, captions=tmp_path / name, split_column="part", licence="mine"))
    assert {split: built.texts(split) for split in SPLITS} == {
        "train": ["A cat."],
        "val": ['A "cat", again.\nWith a second line.'],
        "test": ["A dog."],
    }
    (cat,) = built.samples("train")
    assert cat.parts["jpg"] == (root / "cat/0.jpg").read_bytes()
    facts = json.loads(cat.parts["json"])
    assert facts["captions"] == ["A cat.", "The same cat."] and facts["url"] == "cat/0.jpg"
    assert facts["licence"] == "mine" and (facts["width"], facts["height"]) == (60, 40)
    assert [(drop["reason"], drop["what"]) for drop in built.dropped[2:]] == [
        ("unreadable picture", "dog/broken.jpg"),
        ("picture file missing", "dog/gone.jpg"),
        ("picture outside of root", "../secret.jpg"),
    ]
    assert [drop["reason"] for drop in built.dropped[:2]] == ["no caption", "no picture named"]
    assert all(drop["what"].startswith(name) for drop in built.dropped[:2])


def test_a_caption_may_be_a_list(root: Path, tmp_path: Path, build) -> None:
    (tmp_path / "c.jsonl").write_text('{"file": "cat/0.jpg", "texts": ["One.", " ", "Two."]}\n')
    built = build(plan_folder(root, captions=tmp_path / "c.jsonl", image_column="file", caption_column="texts"))
    assert built.facts("train")[0]["captions"] == ["One.", "Two."] and built.texts("train") == ["One."]


def test_texts_alone(root: Path, tmp_path: Path, build) -> None:
    (tmp_path / "t.csv").write_text("caption\n" + "".join(f"Text {i % 40}.\n" for i in range(80)))
    built = build(plan_folder(root, captions=tmp_path / "t.csv", image_column="", val=0.2, test=0.2))
    texts = {split: built.texts(split) for split in SPLITS}
    assert sorted(text for split in SPLITS for text in texts[split]) == sorted(f"Text {i % 40}." for i in range(80))
    assert all(texts.values()) and not set(texts["train"]) & set(texts["val"] + texts["test"])  # equal ones together
    assert all(set(sample.parts) == {"txt", "json"} for sample in built.samples("train"))


def test_classes_from_folders(root: Path, build) -> None:
    built = build(plan_folder(root, image_size=16, samples_per_shard=2))
    assert [sample.parts["cls"] for sample in built.samples("train")] == [b"0", b"0", b"1", b"1"]
    assert [fact["class"] for fact in built.facts("train")] == ["cat", "cat", "dog", "dog"]
    assert (built.out / "classnames.txt").read_text() == "cat\ndog\n"
    assert {(fact["width"], fact["height"]) for fact in built.facts("train")} == {(24, 16)}
    assert [drop["what"] for drop in built.dropped] == ["dog/broken.jpg"]


def test_folders_called_after_splits_are_the_splits(tmp_path: Path, build, draw) -> None:
    for seed, name in enumerate(("train/cat/0.png", "train/dog/0.png", "validation/dog/1.png", "test/cat/1.png")):
        draw(tmp_path / "pictures" / name, seed)
    built = build(plan_folder(tmp_path / "pictures"))
    assert {split: [fact["class"] for fact in built.facts(split)] for split in SPLITS} == {
        "train": ["cat", "dog"],
        "val": ["dog"],
        "test": ["cat"],
    }


def test_a_limit_takes_the_first_of_each_split(tmp_path: Path, build, draw) -> None:
    for seed, name in enumerate(("train/a/0.png", "train/a/1.png", "train/b/2.png", "test/a/3.png")):
        draw(tmp_path / "pictures" / name, seed)
    built = build(plan_folder(tmp_path / "pictures", limit=2))
    assert [len(built.facts(split)) for split in SPLITS] == [2, 0, 1]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("c.csv", b"file,text\na,b\n", r"c.csv has no column 'image'. It has file, text"),
        ("c.csv", b"", r"c.csv has no column 'image'. It has none"),
        ("c.csv", b"image,caption\na,caf\xe9\n", r"c.csv, after line .*utf-8"),
        ("c.jsonl", b'{"image": "a", "caption": "b"}\n{"image": "a"}\n', r"c.jsonl, line 2 has no column 'caption'"),
        ("c.jsonl", b'{"image": \n', r"c.jsonl, line 1 is not JSON"),
        ("c.jsonl", b"[]\n", r"c.jsonl, line 1 is not a JSON object"),
        ("c.xlsx", b"", r"c.xlsx' must end in one of .csv, .tsv, .jsonl"),
    ],
)
def test_tables_that_cannot_be_read_are_named(root: Path, tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=told):
        plan_folder(root, captions=tmp_path / name)


def test_a_damaged_parquet_file_is_named(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "c.parquet").write_bytes(b"PAR1 no more PAR1")
    with pytest.raises(ValueError, match=r"c.parquet cannot be read as Parquet"):
        plan_folder(root, captions=tmp_path / "c.parquet")


def test_parquet_without_pyarrow_says_what_to_install(root: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "c.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"pip install 'mm-mhmoe\[parquet\]'"):
        plan_folder(root, captions=tmp_path / "c.parquet")


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("cat/0.jpg,A,train\ncat/0.jpg,B,test\n", r"line 3: 'cat/0.jpg' is in the splits train and test"),
        ("cat/0.jpg,A,dev\n", r"line 2: 'dev' is no split. Use train, val or test"),
    ],
)
def test_impossible_splits_are_refused(root: Path, tmp_path: Path, rows: str, told: str) -> None:
    (tmp_path / "c.csv").write_text(f"image,caption,part\n{rows}")
    with pytest.raises(ValueError, match=told):
        plan_folder(root, captions=tmp_path / "c.csv", split_column="part")


@pytest.mark.parametrize(
    ("change", "told"), [({"limit": 0}, "limit=0"), ({"image_size": 3}, "image_size=3"), ({"test": 2.0}, "test=2.0")]
)
def test_unusable_arguments_are_named(root: Path, change: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        plan_folder(root, **change)  # type: ignore[arg-type]


def test_a_folder_without_pictures_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no pictures: looked for \.jpg"):
        plan_folder(tmp_path)
    with pytest.raises(ValueError, match="nowhere' is no folder"):
        plan_folder(tmp_path / "nowhere")
