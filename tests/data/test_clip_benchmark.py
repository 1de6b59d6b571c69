"""Folders that CLIP_benchmark 1.6.2 wrote (files/README.md); the labels are those of the script that had it write."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import fsspec
import numpy as np
import pytest
from mm_mhmoe_data.clip_benchmark import read_clip_benchmark
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.shards import Sample, write_shards
from mm_mhmoe_data.shards.indexed import SampleError

from mm_mhmoe.commands.sources import data_path

FILES = Path(__file__).parent / "files" / "clip_benchmark"
NAMES = ("animal", "flag", "a thing, or two")


def test_one_class_each() -> None:
    split = read_clip_benchmark(FILES / "classification")
    assert (split.kind, split.classnames, split.templates) == (
        "classification",
        NAMES,
        ("a drawing of a {c}", "{c}"),
    )
    assert [shard.name for shard in split.shards] == ["0.tar", "1.tar"]
    assert [split.labels(i) for i in range(len(split))] == [(2,), (0,), (1,), (1,), (2,)]


def test_several_classes_each() -> None:
    split = read_clip_benchmark(FILES / "multilabel")
    assert (split.kind, split.classnames, split.templates) == ("multilabel", NAMES, ())
    assert [split.labels(i) for i in range(len(split))] == [(1,), (0, 1), (), (0, 1, 2), (2,)]


def test_several_captions_each() -> None:
    split = read_clip_benchmark(str(FILES / "retrieval"))
    assert (split.kind, split.classnames) == ("retrieval", ())
    assert [split.captions(i) for i in range(len(split))] == [
        ("a picture", f"picture {i}: ä, b")[: 1 + i % 2] for i in range(5)
    ]
    with pytest.raises(SampleError, match=r"0\.tar: sample s0000000 has no \.cls, which a set for retrieval needs"):
        split.labels(0)


@pytest.mark.parametrize("kind", ["classification", "multilabel", "retrieval"])
def test_pictures_have_the_same_numbers(kind: str) -> None:
    split, demo = read_clip_benchmark(FILES / kind), ShardDataset(data_path("demo:val"))
    pictures = ShardDataset(list(split.shards), "images")
    assert [pictures.image_bytes(i) for i in range(len(split))] == [demo.image_bytes(i) for i in range(5)]


def test_a_folder_on_another_machine() -> None:
    files = fsspec.filesystem("memory")
    files.put(f"{FILES}/", "/clip/", recursive=True)
    split = read_clip_benchmark("memory://clip/classification")
    assert split.classnames == NAMES and [split.labels(i) for i in range(5)] == [(2,), (0,), (1,), (1,), (2,)]
    files.rm("/clip", recursive=True)


class _Opens:
    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("ran", "w")


def _npy(array: object) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array(array))
    return out.getvalue()


def _set(folder: Path, kind: str, **parts: bytes) -> Path:
    """A made-up set of one sample."""
    write_shards([Sample(key="a", parts={"jpg": b"j", **parts})], folder / "test", 0, 1)
    (folder / "test" / "00000.tar").rename(folder / "test" / "0.tar")
    (folder / "test" / "nshards.txt").write_text("1")
    (folder / "dataset_type.txt").write_text(kind)
    (folder / "classnames.txt").write_text("x\ny\n")
    return folder


@pytest.mark.parametrize(
    ("kind", "parts", "problem"),
    [
        ("classification", {"cls": b"2"}, "has class 2, but there are 2"),
        ("classification", {"cls": b"-1"}, "instead of a class number"),
        ("classification", {"npy": _npy([0, 1])}, r"has no \.cls"),
        ("multilabel", {"npy": _npy([0, 2])}, "not a list of 0 and 1"),
        ("multilabel", {"npy": _npy([0, 0, 1])}, "has class 2, but there are 2"),
        ("multilabel", {"npy": b"\x93NUMPY"}, "cannot be read"),
        ("multilabel", {"npy": pickle.dumps(_Opens())}, "cannot be read"),
    ],
)
def test_wrong_labels_name_their_sample(tmp_path: Path, kind: str, parts: dict[str, bytes], problem: str) -> None:
    split = read_clip_benchmark(_set(tmp_path, kind, **parts))
    with pytest.raises(SampleError, match=rf"0\.tar: sample a .*{problem}"):
        split.labels(0)


def test_only_retrieval_splits_captions(tmp_path: Path) -> None:
    text = b"one\n\ntwo \n"
    assert read_clip_benchmark(_set(tmp_path / "a", "Retrieval\n", txt=text)).captions(0) == ("one", "two")
    assert read_clip_benchmark(_set(tmp_path / "b", "classification", txt=text)).captions(0) == ("one\n\ntwo",)
    for content, problem in [(b"\xff", "not UTF-8"), (b" \n", "no caption")]:
        with pytest.raises(SampleError, match=problem):
            read_clip_benchmark(_set(tmp_path / problem, "retrieval", txt=content)).captions(0)


def test_wrong_lists_are_refused(tmp_path: Path) -> None:
    folder = _set(tmp_path, "detection", cls=b"0")
    with pytest.raises(ValueError, match=r"dataset_type\.txt says 'detection'; known are classification"):
        read_clip_benchmark(folder)
    (folder / "dataset_type.txt").unlink()
    (folder / "zeroshot_classification_templates.txt").write_text("a photo of {}\n")
    with pytest.raises(ValueError, match=r"templates\.txt has 'a photo of \{\}' without \{c\}"):
        read_clip_benchmark(folder)
    with pytest.raises(ValueError, match=r"none/test/nshards\.txt does not exist"):
        read_clip_benchmark(tmp_path / "none")
