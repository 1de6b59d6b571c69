"""Pictures and files for small sources, and a look at what a build left."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mm_mhmoe_data.recipes.build import Plan, run_plan
from mm_mhmoe_data.shards import Sample, iter_samples
from PIL import Image


class Built:
    """A finished build: its manifest, its samples by split, its files by name."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.manifest: dict[str, Any] = json.loads((out / "manifest.json").read_text())
        self.dropped = [json.loads(line) for line in (out / "dropped.jsonl").read_text().splitlines()]

    def samples(self, split: str) -> Iterator[Sample]:
        for shard in sorted((self.out / split).glob("*.tar")):
            yield from iter_samples(shard)

    def by_key(self, split: str) -> dict[str, Sample]:
        return {sample.key: sample for sample in self.samples(split)}

    def left_out(self) -> list[tuple[str, str]]:
        """(reason, what) of everything that was dropped."""
        return [(row["reason"], row["what"]) for row in self.dropped]

    def facts(self, split: str) -> list[dict[str, Any]]:
        return [json.loads(sample.parts["json"]) for sample in self.samples(split)]

    def texts(self, split: str) -> list[str]:
        return [sample.parts["txt"].decode() for sample in self.samples(split)]

    def digests(self) -> dict[str, str]:
        files = (path for path in sorted(self.out.rglob("*")) if path.is_file())
        return {path.relative_to(self.out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def quiet(*_: object) -> None:
    """Progress that nobody sees."""


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Built]:
    """build(plan, name, workers=1): runs it in tmp_path / name."""

    def run(plan: Plan, name: str = "out", workers: int = 1) -> Built:
        run_plan(plan, tmp_path / name, workers=workers, progress=quiet)
        return Built(tmp_path / name)

    return run


@pytest.fixture(scope="session")
def draw() -> Callable[..., Path]:
    """draw(path, seed, size): a picture of random blots, in the format of the name."""

    def make(path: Path, seed: int, size: tuple[int, int] = (60, 40), mode: str = "RGB") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        small = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
        Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).convert(mode).save(path)
        return path

    return make


@cache
def _demo_pictures() -> list[bytes]:
    shard = Path(str(files("mm_mhmoe_data"))) / "demo" / "val" / "00007.tar"
    return [sample.parts["webp"] for sample in iter_samples(shard)][:40]


@pytest.fixture(scope="session")
def photo() -> Callable[..., bytes]:
    """photo(number, format): one of 40 real drawings of the demo data (96 pixels), encoded anew."""

    def encode(number: int, format: str = "JPEG") -> bytes:
        buffer = io.BytesIO()
        Image.open(io.BytesIO(_demo_pictures()[number])).save(buffer, format)
        return buffer.getvalue()

    return encode


@pytest.fixture(scope="session")
def put() -> Callable[..., Path]:
    """put(path, content): writes bytes, text, or anything else as JSON."""

    def write(path: Path, content: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(content, bytes):
            content = (content if isinstance(content, str) else json.dumps(content)).encode()
        path.write_bytes(content)
        return path

    return write


@pytest.fixture(scope="session")
def facts() -> Callable[[Sample], dict[str, Any]]:
    """facts(sample): its .json."""
    return lambda sample: json.loads(sample.parts["json"])
