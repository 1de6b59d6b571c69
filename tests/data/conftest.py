"""Small shards with made-up pictures, and a tokenizer trained on their captions."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mm_mhmoe_data.shards import Sample, write_shards
from mm_mhmoe_data.tokenizer import Tokenizer, train_tokenizer
from PIL import Image

from mm_mhmoe.config import TextConfig, VisionConfig

NUM_SAMPLES = 23  # prime, so that no batch size divides it
_WORDS = "red green blue star house tree small large bird with a on the left".split()  # noqa: SIM905  (readable)


def picture_bytes(seed: int, *, size: tuple[int, int] = (40, 48), format: str = "PNG") -> bytes:
    """A random picture of (height, width)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format=format)
    return out.getvalue()


def make_samples(count: int = NUM_SAMPLES) -> list[Sample]:
    rng = np.random.default_rng(0)
    return [
        Sample(
            key=f"{i:09d}",
            parts={
                "png" if i % 2 else "jpg": picture_bytes(i, format="PNG" if i % 2 else "JPEG"),
                "txt": " ".join(rng.choice(_WORDS, size=int(rng.integers(2, 9)))).encode(),
                "json": json.dumps({"number": i}).encode(),
            },
        )
        for i in range(count)
    ]


@pytest.fixture(scope="session")
def samples() -> list[Sample]:
    return make_samples()


@pytest.fixture
def write_shard(tmp_path: Path) -> Callable[..., Path]:
    """Writes one shard of one sample, from its parts by extension."""

    def write(**parts: bytes) -> Path:
        write_shards([Sample(key="000000007", parts=parts)], tmp_path, 0, 10)
        return tmp_path / "00000.tar"

    return write


@pytest.fixture(scope="session")
def make_picture() -> Callable[..., bytes]:
    return picture_bytes


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("shards")
    write_shards(make_samples(), directory, 0, 10)
    return directory


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    texts = [sample.parts["txt"].decode() for sample in make_samples(200)]
    return Tokenizer.load(train_tokenizer(texts, tmp_path_factory.mktemp("tokenizer"), vocab_size=64))


@pytest.fixture(scope="session")
def vision() -> VisionConfig:
    return VisionConfig(image_size=32, patch_size=4)


@pytest.fixture(scope="session")
def text() -> TextConfig:
    return TextConfig(vocab_size=64, max_length=8)
