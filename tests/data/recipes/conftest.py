"""What the tests of the recipes share: real pictures, a build, and a look at what it wrote."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from mm_mhmoe_data.recipes.build import run_plan
from mm_mhmoe_data.recipes.plan import Plan
from mm_mhmoe_data.shards import Sample, iter_samples
from PIL import Image


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


@pytest.fixture
def build(tmp_path: Path) -> Callable[[Plan], tuple[Path, dict[str, Any]]]:
    """build(plan): runs it in this process; (the folder, the manifest)."""

    def run(plan: Plan) -> tuple[Path, dict[str, Any]]:
        out = tmp_path / "built"
        return out, run_plan(plan, out, workers=1, progress=lambda *_: None)

    return run


@pytest.fixture(scope="session")
def samples() -> Callable[[Path], dict[str, Sample]]:
    """samples(folder): what lies in its shards, by key."""

    def read(folder: Path) -> dict[str, Sample]:
        return {sample.key: sample for shard in sorted(folder.glob("*.tar")) for sample in iter_samples(shard)}

    return read


@pytest.fixture(scope="session")
def facts() -> Callable[[Sample], dict[str, Any]]:
    """facts(sample): its .json."""
    return lambda sample: json.loads(sample.parts["json"])


@pytest.fixture(scope="session")
def dropped() -> Callable[[Path], list[tuple[str, str]]]:
    """dropped(out): (reason, what) of everything that the build left out."""

    def read(out: Path) -> list[tuple[str, str]]:
        rows = [json.loads(line) for line in (out / "dropped.jsonl").read_text().splitlines()]
        return [(row["reason"], row["what"]) for row in rows]

    return read
