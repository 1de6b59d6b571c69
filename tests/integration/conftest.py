"""The shipped demo shards cut to 48 pairs, with the questions about them, and a minuscule model's options."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.shards import Sample, write_shards
from mm_mhmoe_eval import runner

from mm_mhmoe import commands
from mm_mhmoe.commands.parser import configured
from mm_mhmoe.commands.sources import config_path, data_path
from mm_mhmoe.commands.tokenizer import train as train_tokenizer
from mm_mhmoe.commands.vqkd import vqkd

PAIRS = 48
SMALL: dict[str, dict[str, Any]] = {
    "tokenizer": {"vocab_size": 200},
    "vqkd": {
        "visual_tokenizer.dim": 16,
        "visual_tokenizer.encoder_depth": 1,
        "visual_tokenizer.num_codes": 16,
        "visual_tokenizer.code_dim": 4,
        "batch_size": 16,
        "codebook_start": 1,
    },
    "pretrain": {"batch_images": 4, "batch_texts": 4, "batch_pairs": 4},
    "finetune_retrieval": {"batch_size": 8, "embed_dim": 16},
    "finetune_vqa": {"batch_size": 8, "min_answer_count": 1},
    "finetune_captioning": {"batch_size": 8},
}
ENCODER = {
    "encoder.dim": 32,
    "encoder.depth": 2,
    "encoder.num_heads": 2,
    "encoder.ffn_dim": 128,
    "encoder.moe.num_experts": 4,
}
RUN = {"steps": 2, "run.precision": "32-true", "run.checkpoint_every": 1, "run.log_every": 1, "run.accelerator": "cpu"}


def small_options(config: str) -> dict[str, Any]:
    """What makes configs/demo/<config>.yaml minuscule."""
    options = dict(SMALL[config])
    if config != "tokenizer":
        options |= RUN | {"optim.warmup_steps": 1}
    if config not in ("tokenizer", "vqkd"):
        options |= ENCODER
    return options


def first_samples(dataset: ShardDataset, count: int) -> list[Sample]:
    samples = []
    for i in range(count):
        content = dataset.image_bytes(i)
        extension = "png" if content.startswith(b"\x89PNG") else "webp" if content.startswith(b"RIFF") else "jpg"
        samples.append(Sample(key=dataset.keys[i], parts={extension: content, "txt": dataset.caption(i).encode()}))
    return samples


@pytest.fixture(scope="session")
def samples_of() -> Callable[[int], list[Sample]]:
    return lambda count: first_samples(ShardDataset(data_path("demo:train")), count)


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the shipped demo data, with PAIRS pairs in each split."""
    root = tmp_path_factory.mktemp("demo")
    for split in ("train", "val", "test"):
        dataset = ShardDataset(data_path(f"demo:{split}"))
        samples = first_samples(dataset, PAIRS)
        write_shards(samples, root / split, 0, 100)
        _questions(split, {int(sample.key) for sample in samples}, root / "vqa")
    (root / "manifest.json").write_bytes((Path(data_path("demo:train")).parent / "manifest.json").read_bytes())
    return root


def _questions(split: str, kept: set[int], to: Path) -> None:
    to.mkdir(exist_ok=True)
    for part in ("questions", "annotations"):
        content = json.loads(Path(data_path(f"demo:vqa/{split}_{part}.json")).read_text())
        content[part] = [row for row in content[part] if row["image_id"] in kept]
        assert content[part]
        (to / f"{split}_{part}.json").write_text(json.dumps(content))


@pytest.fixture
def small_demo(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Makes demo:... mean the small data, everywhere in mm_mhmoe.commands and in the shipped tasks."""
    import importlib
    import pkgutil

    def small_path(source: str) -> str:
        return str(shipped / source.removeprefix("demo:")) if source.startswith("demo:") else source

    for info in pkgutil.iter_modules(commands.__path__):
        module = importlib.import_module(f"mm_mhmoe.commands.{info.name}")
        if hasattr(module, "data_path"):
            monkeypatch.setattr(module, "data_path", small_path)
    paths = runner._paths
    monkeypatch.setattr(runner, "_paths", lambda task, root, data: paths(task, root or shipped, data))
    return small_options


@pytest.fixture
def parts(small_config, tmp_path: Path) -> dict[str, Path]:
    """Both tokenizers."""
    train_tokenizer(**small_config(train_tokenizer, "tokenizer", out=tmp_path / "words"))
    vqkd(**small_config(vqkd, "vqkd", out=tmp_path / "codes"))
    return {"tokenizer": tmp_path / "words", "visual_tokenizer": tmp_path / "codes"}


@pytest.fixture
def pretrain_words(small_demo, parts, shipped: Path) -> Callable[..., list[str]]:
    """The words of a small pretraining's command."""

    def words(out: Path, **changes: Any) -> list[str]:
        options = {**small_demo("pretrain"), **parts, "out": out, "shards": shipped / "train", **changes}
        config = config_path("demo/pretrain.yaml")
        return ["pretrain", f"--config={config}", *(f"--{name}={value}" for name, value in options.items())]

    return words


@pytest.fixture
def small_config() -> Callable[..., dict[str, Any]]:
    def arguments(function: Callable[..., Any], config: str, **changes: Any) -> dict[str, Any]:
        return configured(function, config_path(f"demo/{config}.yaml"), **{**small_options(config), **changes})

    return arguments
