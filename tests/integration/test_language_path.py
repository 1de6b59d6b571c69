"""Language models on a few made-up pages in three languages, from shards to scores, figures, texts and the table.

Truth: each file says what made it; two steps teach nothing, so numbers only have to be the records'. A run that was
stopped ends with the weights of one that was not.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mm_mhmoe_data.shards import Sample, write_shards

from mm_mhmoe import cli
from mm_mhmoe.commands import lm_table as table
from mm_mhmoe.commands import steps
from mm_mhmoe.commands.lm import lm
from mm_mhmoe.commands.parser import configured
from mm_mhmoe.commands.sources import config_path
from mm_mhmoe.commands.tokenizer import train as train_tokenizer
from mm_mhmoe.models.checkpoints import load, read_config
from mm_mhmoe.models.tasks import LanguageModel
from mm_mhmoe.training.callbacks import StopOnSignal
from mm_mhmoe.training.interrupted import Interrupted

WORDS = {
    "en-US": ["the", "package", "and", "its", "configuration", "are", "installed", "by", "an", "administrator", "now"],
    "fr-FR": ["le", "paquet", "et", "sa", "configuration", "sont", "installés", "par", "un", "administrateur"],
    "ja-JP": ["パッケージ", "と", "設定", "は", "管理者", "に", "よって", "導入", "される"],
}
SMALL: dict[str, Any] = {
    "steps": 2,
    "batch_size": 4,
    "encoder.dim": 32,
    "encoder.depth": 2,
    "encoder.num_heads": 2,
    "encoder.ffn_dim": 128,
    "encoder.moe.num_experts": 4,
    "encoder.text.vocab_size": 450,
    "encoder.text.max_length": 32,
    "optim.warmup_steps": 1,
    "run.precision": "32-true",
    "run.accelerator": "cpu",
    "run.log_every": 1,
}


@pytest.fixture(scope="session")
def handbook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages as data build debian-handbook writes them."""
    root = tmp_path_factory.mktemp("handbook")
    for split, pages in (("train", range(6)), ("val", range(6, 8)), ("test", range(8, 14))):
        samples = []
        for language, words in WORDS.items():
            rng = np.random.default_rng(len(samples))
            for page in pages:
                for number in range(4):
                    text = " ".join(rng.choice(words, size=12))
                    facts = {"language": language, "id": f"p{page}", "paragraph": f"p{page}/{number}", "kind": "para"}
                    parts = {"txt": text.encode(), "json": json.dumps(facts).encode()}
                    samples.append(Sample(key=f"{len(samples):09d}", parts=parts))
        write_shards(samples, root / split, 0, 1000)
    return root


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory, handbook: Path) -> Path:
    out = tmp_path_factory.mktemp("words")
    options = {"out": out, "shards": handbook / "train", "vocab_size": 450}
    train_tokenizer(**configured(train_tokenizer, config_path("tokenizer/text_multilingual.yaml"), **options))
    return out


@pytest.fixture
def options(handbook: Path, words: Path):
    def make(out: Path, **changes: Any) -> dict[str, Any]:
        own = {"out": out, "tokenizer": words, "shards": handbook / "train", "val_shards": handbook / "val"}
        return configured(lm, config_path("pretrain/lm_multilingual_tiny.yaml"), **{**SMALL, **own, **changes})

    return make


def test_from_shards_to_scores_and_figures(options, handbook: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "run"
    lm(**options(out))
    assert isinstance(load(out), LanguageModel) and read_config(out)["kind"] == "language"
    logged = [path.read_text() for path in (out / "logs").rglob("metrics.csv")]
    assert all("val/next_token/ja-JP" in text and "train/next_token" in text for text in logged)

    names = "perplexity_handbook,next_paragraph_handbook,translation_handbook,perplexity_handbook_english"
    told = ["--data_dir", str(handbook), "--output_path", str(tmp_path / "scores")]
    cli.run(["eval", "--model", str(out), "--tasks", names, *told])
    metrics = {p.stem: json.loads(p.read_text())["metrics"] for p in (tmp_path / "scores").glob("*.json")}
    assert set(metrics) == set(names.split(","))
    assert 1 < metrics["perplexity_handbook"]["perplexity/fr-FR"] < 1e6
    assert metrics["perplexity_handbook_english"]["tokens"] == metrics["perplexity_handbook"]["tokens/en-US"]
    assert metrics["translation_handbook"]["count/en-US>ja-JP"] > 0

    cli.run(["analyze", "--model", str(out), "--shards", str(handbook / "test"), "--out", str(tmp_path / "routing")])
    analysis = json.loads((tmp_path / "routing" / "analysis.json").read_text())
    (found,) = analysis["models"].values()
    counts = found["languages"]["first_choices"]["2"]
    assert set(counts) == set(WORDS) and all(len(each) == 4 and sum(each) > 0 for each in counts.values())
    assert found["widest_words"] and (tmp_path / "routing" / "languages.png").is_file()

    capsys.readouterr()
    cli.run(["generate", "--model", str(out), "--prompt", "the package", "--most", "5", "--count", "2"])
    written = capsys.readouterr().out
    assert written.count("the package") == 2


def test_a_stopped_run_ends_as_one_that_was_not(options, tmp_path: Path, monkeypatch) -> None:
    changes = {"steps": 4, "val_shards": "null", "run.checkpoint_every": 10}
    lm(**options(tmp_path / "whole", **changes))
    begun = StopOnSignal.on_train_batch_end

    def stop(self, trainer, *rest) -> None:
        self.requested = self.requested or trainer.global_step == 2
        begun(self, trainer, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(StopOnSignal, "on_train_batch_end", stop)
        with pytest.raises(Interrupted):
            lm(**options(tmp_path / "stopped", **changes))
    lm(**options(tmp_path / "stopped", **changes))
    whole, stopped = (load(tmp_path / name).state_dict() for name in ("whole", "stopped"))
    torch.testing.assert_close(stopped, whole, rtol=0, atol=0)


def test_it_learns(options, tmp_path: Path) -> None:
    """Twelve words a language: a perplexity near theirs, far below that of the vocabulary."""
    lm(**options(tmp_path / "run", steps=60, **{"optim.lr": 5e-3}))
    lines = next((tmp_path / "run" / "logs").rglob("metrics.csv")).read_text().splitlines()
    column = lines[0].split(",").index("val/next_token")
    assert float(lines[-1].split(",")[column]) < 3.5 < np.log(450) - 2


def test_the_table_holds_what_the_records_hold(handbook: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    def small(function, config: Path, **changes: Any) -> dict[str, Any]:
        own = SMALL if function is lm else {"vocab_size": 450}
        return configured(function, config, **{**own, **changes})

    for module in (table, steps):
        monkeypatch.setattr(module, "configured", small)
    out, kept = tmp_path / "runs", tmp_path / "kept"
    table.lm_table(handbook, out=out, settings=["multilingual"], seeds=[0, 1], record=kept)
    text = (kept / "table.md").read_text()
    assert text == (out / "table.md").read_text() and "MH-MoE, 32 experts" in capsys.readouterr().out
    scores = [kept / "multilingual" / f"seed_{s}" / "xmoe" / "perplexity_handbook.json" for s in (0, 1)]
    mean = sum(json.loads(path.read_text())["metrics"]["bits_per_byte"] for path in scores) / 2
    line = next(line for line in text.splitlines() if line.startswith("| X-MoE, 8 experts |"))
    assert line.split("|")[3].split("±")[0].strip() == f"{mean:.3f}"
    assert (kept / "multilingual" / "languages.png").is_file()
    assert not (out / "multilingual" / "seed_1" / "mhmoe_32").exists()


def test_a_handbook_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no train/"):
        table.lm_table(tmp_path, out=tmp_path / "out")
