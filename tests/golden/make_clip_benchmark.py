"""Makes tests/data/files/clip_benchmark with CLIP_benchmark 1.6.2's own converter, from pictures of the demo.

    python -m venv env && env/bin/pip install clip_benchmark . && env/bin/python tests/golden/make_clip_benchmark.py OUT

The demo's drawings are in the public domain.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from clip_benchmark.webdataset_builder import convert_dataset, convert_retrieval_dataset
from mm_mhmoe_data.pipeline import ShardDataset

from mm_mhmoe.commands.sources import data_path

CLASSES = [2, 0, 1, 1, 2]
SEVERAL = [[0, 1, 0], [1, 1, 0], [0, 0, 0], [1, 1, 1], [0, 0, 1]]


class Examples(list[Any]):
    """The converter takes a list of (picture, label) with names as attributes."""

    classes: list[str]
    templates: list[str]


def main(out: Path) -> None:
    data = ShardDataset(data_path("demo:val"))
    pictures = [data.image_bytes(i) for i in range(len(CLASSES))]
    one = Examples(zip(pictures, CLASSES, strict=True))
    one.classes, one.templates = ["animal", "flag", "a thing, or two"], ["a drawing of a {c}", "{c}"]
    convert_dataset(one, "test", str(out / "classification"), max_count=3)
    several = Examples(zip(pictures, map(torch.tensor, SEVERAL), strict=True))
    several.classes = one.classes
    convert_dataset(several, "test", str(out / "multilabel"), multilabel=True)
    captions = [["a picture", f"picture {i}: ä, b"][: 1 + i % 2] for i in range(len(pictures))]
    convert_retrieval_dataset(Examples(zip(pictures, captions, strict=True)), "test", str(out / "retrieval"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
