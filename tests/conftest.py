"""Small models and batches that several rooms' tests share."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sentencepiece as spm
import torch
from safetensors.torch import load_file

from mm_mhmoe import cli
from mm_mhmoe.batch import Images, ImageTextBatch, Texts
from mm_mhmoe.config import EncoderConfig, MoEConfig, TextConfig, VisionConfig

VISION = VisionConfig(image_size=16, patch_size=4)
TEXT = TextConfig(vocab_size=40, max_length=8)
BEIT3 = Path(__file__).parent / "golden" / "torchscale_beit3.safetensors"


def make_config(**changes: Any) -> EncoderConfig:
    values: dict[str, Any] = {
        "dim": 32,
        "depth": 2,
        "num_heads": 2,
        "ffn_dim": 128,
        "drop_path": 0.0,
        "vision": VISION,
        "text": TEXT,
        "moe": MoEConfig(num_experts=4, top_k=2, heads=4, every=2),
    }
    return EncoderConfig(**{**values, **changes})


def make_stream(
    kind: str = "pairs",
    rows: int = 3,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    masked: bool = False,
    padded: bool = True,
) -> ImageTextBatch:
    """A stream of `kind` images, texts or pairs. Row r of the texts has r padding tokens (at most 4) if padded."""
    generator = torch.Generator().manual_seed(seed)
    images = texts = None
    if kind != "texts":
        pixels = torch.rand(rows, 3, 16, 16, generator=generator, dtype=dtype) * 2 - 1
        images = Images(
            pixels_BCHW=pixels, masked_BN=torch.rand(rows, 16, generator=generator) < 0.4 if masked else None
        )
    if kind != "images":
        ids = torch.randint(5, 40, (rows, 8), generator=generator)
        ids[:, 0] = 0
        lengths = torch.tensor([8 - min(row, 4) if padded else 8 for row in range(rows)])
        valid = torch.arange(8) < lengths[:, None]
        ids[~valid] = 1
        hidden = (torch.rand(rows, 8, generator=generator) < 0.5) & valid & (torch.arange(8) > 0)
        texts = Texts(ids_BL=ids, valid_BL=valid, masked_BL=hidden if masked else None)
    return ImageTextBatch(images=images, texts=texts)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Indexes of shards go to a folder of the tests' own, also in processes that they start."""
    before = os.environ.get("MM_MHMOE_CACHE")
    os.environ["MM_MHMOE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["MM_MHMOE_CACHE"]
    else:
        os.environ["MM_MHMOE_CACHE"] = before


@pytest.fixture(scope="session")
def config() -> Callable[..., EncoderConfig]:
    """make_config(**changes): a minuscule encoder's configuration."""
    return make_config


@pytest.fixture(scope="session")
def stream() -> Callable[..., ImageTextBatch]:
    """make_stream(kind, rows, ...): random batches for it."""
    return make_stream


@pytest.fixture
def released() -> dict[str, torch.Tensor]:
    """A checkpoint with the names of BEiT-3's releases: two blocks of 16, 8 x 8 pixels, 24 words, random weights."""
    prefix = "weight."
    return {k.removeprefix(prefix): v.clone() for k, v in load_file(BEIT3).items() if k.startswith(prefix)}


@pytest.fixture(scope="session")
def xlmr_words(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """A SentencePiece model that begins as XLM-RoBERTa's: <unk>, <s>, </s>. Trained on made-up lines."""
    folder = tmp_path_factory.mktemp("words")

    def make(pieces: int) -> Path:
        path = folder / f"{pieces}.spm"
        if not path.exists():
            lines = [f"a red car and the blue boat number {n} by a tree" for n in range(40)]
            with path.open("wb") as file:
                spm.SentencePieceTrainer.train(
                    sentence_iterator=iter(lines), model_writer=file, vocab_size=pieces, num_threads=1, minloglevel=2
                )
        return path

    return make


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """mm-mhmoe with these words, on a terminal of 80 columns: (exit code, stdout, stderr)."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mm-mhmoe", *map(str, words)])
        monkeypatch.setattr(cli, "keep_large_buffers", lambda: False)
        monkeypatch.setenv("COLUMNS", "80")
        code: object = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return int(code or 0), out, err  # type: ignore[call-overload]

    return run


@pytest.fixture(scope="session")
def two_ranks() -> Callable[[Path, Path], list[Any]]:
    """Runs `script RANK FOLDER` as ranks 0 and 1 at the same time; what each has saved as FOLDER/RANK.pt."""

    def run(script: Path, folder: Path) -> list[Any]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        running = [
            subprocess.Popen(
                [sys.executable, str(script), str(rank), str(folder)],
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
            for rank in (0, 1)
        ]
        for process in running:
            _, errors = process.communicate(timeout=300)  # seconds on an idle machine, minutes on a busy one
            assert process.returncode == 0, errors[-3000:]
        return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]

    return run


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium (tests/browser.py); without one on the PATH, the test is skipped."""
    spec = importlib.util.spec_from_file_location("browser", Path(__file__).parent / "browser.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if module.CHROMIUM is None:
        pytest.skip("there is no Chromium on the PATH")
    with module.Browser() as opened:
        yield opened
