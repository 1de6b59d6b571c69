"""Shards of 24 made-up pairs with categories, a tokenizer of their captions, and minuscule models for them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.shards import Sample, write_shards
from mm_mhmoe_data.tokenizer import TOKENIZER_FILE, Tokenizer, train_tokenizer
from PIL import Image

from mm_mhmoe.config import EncoderConfig, MoEConfig, TextConfig, VisionConfig
from mm_mhmoe.models.checkpoints import save
from mm_mhmoe.models.tasks import PretrainModel, RetrievalModel, TaskModel, VQAModel

ADJECTIVES = "red green blue old small happy".split()  # noqa: SIM905  (readable)
THINGS = {"cat": "animals", "dog": "animals", "car": "machines", "clock": "machines"}


def make_samples() -> list[Sample]:
    samples = []
    for i in range(24):
        thing = list(THINGS)[i % 4]
        out = io.BytesIO()
        pixels = np.random.default_rng(i).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(out, format="PNG")
        caption = f"{ADJECTIVES[i % 6]} {thing}, {'the ' * (i % 3)}{ADJECTIVES[(i + 2) % 5]} one"
        parts = {
            "png": out.getvalue(),
            "txt": caption.encode(),
            "json": json.dumps({"category": THINGS[thing]}).encode(),
        }
        samples.append(Sample(key=f"{i:09d}", parts=parts))
    return samples


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("shards")
    write_shards(make_samples(), directory, 0, 10)
    return directory


@pytest.fixture(scope="session")
def dataset(shards: Path) -> ShardDataset:
    return ShardDataset(shards)


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    captions = [sample.parts["txt"].decode() for sample in make_samples()]
    return Tokenizer.load(train_tokenizer(captions, tmp_path_factory.mktemp("words"), vocab_size=50))


def make_model(kind: str, seed: int = 0, **changes: Any) -> TaskModel:
    values: dict[str, Any] = {
        "dim": 32,
        "depth": 2,
        "num_heads": 2,
        "ffn_dim": 128,
        "vision": VisionConfig(image_size=16, patch_size=4),
        "text": TextConfig(vocab_size=50, max_length=16),
        "moe": MoEConfig(num_experts=5, top_k=2, heads=4, every=1),
    }
    config = EncoderConfig(**{**values, **changes})
    torch.manual_seed(seed)
    if kind == "pretrain":
        return PretrainModel(config, 8)
    return RetrievalModel(config, 4) if kind == "retrieval" else VQAModel(config, ("yes", "no"))


@pytest.fixture(scope="session")
def model() -> Callable[..., TaskModel]:
    """make_model(kind, seed, **changes of the encoder's configuration): random weights."""
    return make_model


@pytest.fixture
def saved(tokenizer: Tokenizer, tmp_path: Path) -> Callable[..., str]:
    """Such a model as a directory: saved(name, kind, seed, **changes)."""

    def write(name: str, kind: str = "pretrain", seed: int = 0, **changes: Any) -> str:
        save(make_model(kind, seed, **changes), tmp_path / name, files={TOKENIZER_FILE: tokenizer.path})
        return str(tmp_path / name)

    return write
