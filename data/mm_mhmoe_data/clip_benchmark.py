"""CLIP_benchmark's layout: a set of pictures with classes, several classes each, or several captions each.

ROOT/dataset_type.txt                             retrieval or multilabel; absent: classification
ROOT/classnames.txt                               one a line, in the order of the labels
ROOT/zeroshot_classification_templates.txt        one a line, {c} stands for the class
ROOT/SPLIT/nshards.txt, 0.tar, 1.tar, ...         .cls (number), .npy (0 or 1 for each class), .txt (a caption a line)
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from mm_mhmoe_data.pipeline import MAX_CAPTION_BYTES
from mm_mhmoe_data.shards import Shard
from mm_mhmoe_data.shards.index import IMAGE
from mm_mhmoe_data.shards.indexed import IndexedShards
from mm_mhmoe_data.shards.lists import numbered_shards
from mm_mhmoe_data.shards.places import join, read_small

Kind = Literal["classification", "multilabel", "retrieval"]

_PLACE = "{c}"


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipBenchmarkSplit:
    """One split. Samples are numbered as in `ShardDataset(list(shards), "images")`, which has the pictures.

    classnames, templates: empty where their files are absent.
    """

    kind: Kind
    classnames: tuple[str, ...]
    templates: tuple[str, ...]
    shards: tuple[Shard, ...]
    samples: IndexedShards

    def __len__(self) -> int:
        return len(self.samples)

    def labels(self, index: int) -> tuple[int, ...]:
        """The classes of a picture, by number: one, or any number of them in a multilabel set.

        Raises `SampleError` if there is no label, it cannot be read, or names no class.
        """
        content = self._member(index, "npy" if self.kind == "multilabel" else "cls")
        found = self._several(index, content) if self.kind == "multilabel" else self._one(index, content)
        if self.classnames and any(label >= len(self.classnames) for label in found):
            raise self.samples.error(index, f"has class {max(found)}, but there are {len(self.classnames)}", "label")
        return found

    def captions(self, index: int) -> tuple[str, ...]:
        """The captions of a picture; only a retrieval set has several. Raises `SampleError` if there is none."""
        try:
            text = self._member(index, "txt").decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.samples.error(index, f"has captions that are not UTF-8 ({error.reason})", "text") from error
        lines = text.split("\n") if self.kind == "retrieval" else [text]
        captions = tuple(line.strip() for line in lines if line.strip())
        if not captions:
            raise self.samples.error(index, "has no caption", "text")
        return captions

    def _one(self, index: int, content: bytes) -> tuple[int, ...]:
        if not content.strip().isdigit():
            raise self.samples.error(index, f"has {content[:20]!r} in its .cls instead of a class number", "label")
        return (int(content),)

    def _several(self, index: int, content: bytes) -> tuple[int, ...]:
        try:
            values = np.load(io.BytesIO(content), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise self.samples.error(index, f"has a .npy that cannot be read ({error})", "label") from error
        if values.ndim != 1 or not np.isin(values, (0, 1)).all():
            raise self.samples.error(index, "has a .npy that is not a list of 0 and 1, one for each class", "label")
        return tuple(np.flatnonzero(values).tolist())

    def _member(self, index: int, extension: str) -> bytes:
        members = self.samples.members(index)
        if extension not in members:
            raise self.samples.error(index, f"has no .{extension}, which a set for {self.kind} needs", "label")
        offset, size = members[extension]
        if size > MAX_CAPTION_BYTES:
            problem = f"has a .{extension} of {size} bytes; at most {MAX_CAPTION_BYTES} are read"
            raise self.samples.error(index, problem, "read")
        return self.samples.read(index, offset, size)


def read_clip_benchmark(root: str | Path, split: str = "test") -> ClipBenchmarkSplit:
    """A split of a folder in CLIP_benchmark's layout, here or on another machine.

    Raises:
        ValueError: it is no such folder, or one of its lists is wrong.
        ShardError: a shard is broken.
    """
    kind = " ".join(read_lines(join(str(root), "dataset_type.txt"))).lower() or "classification"
    if kind not in get_args(Kind):
        raise ValueError(f"{root}/dataset_type.txt says {kind!r}; known are {', '.join(get_args(Kind))}")
    templates = read_lines(join(str(root), "zeroshot_classification_templates.txt"))
    for template in templates:
        if _PLACE not in template:
            raise ValueError(f"{root}/zeroshot_classification_templates.txt has {template!r} without {_PLACE}")
    shards = numbered_shards(join(str(root), split))
    return ClipBenchmarkSplit(
        kind=kind,  # type: ignore[arg-type]
        classnames=read_lines(join(str(root), "classnames.txt")),
        templates=templates,
        shards=tuple(shards),
        samples=IndexedShards(shards, IMAGE),
    )


def read_lines(place: str) -> tuple[str, ...]:
    """The lines of a file, by path or address, that are not empty; none where there is no file."""
    content = read_small(place)
    try:
        lines = (content or b"").decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{place} is not UTF-8 text ({error.reason}). Save it as UTF-8") from error
    return tuple(line.strip() for line in lines if line.strip())
