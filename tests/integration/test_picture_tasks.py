"""The commands of NLVR2 and classification on the shipped clip-art, from a minuscule encoder to records and files.

Truth: what lies in the directories, and that records repeat what the files say.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mm_mhmoe import cli
from mm_mhmoe.commands.sources import config_path
from mm_mhmoe.commands.tokenizer import train as train_tokenizer

SMALL = {
    "encoder.dim": 32,
    "encoder.depth": 2,
    "encoder.num_heads": 2,
    "encoder.ffn_dim": 128,
    "encoder.moe.num_experts": 4,
    "steps": 2,
    "batch_size": 8,
    "optim.warmup_steps": 1,
    "run.precision": "32-true",
    "run.accelerator": "cpu",
    "init": "null",
}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    train_tokenizer(out=tmp_path_factory.mktemp("words") / "tokenizer", shards="demo:val", vocab_size=300)
    return next(tmp_path_factory.getbasetemp().glob("words*/tokenizer"))


def score(task: str, folder: Path, limit: int) -> None:
    where = [f"--model={folder / 'model'}", f"--output_path={folder}"]
    cli.run(["eval", *where, f"--tasks={task}", f"--limit={limit}", "--log_samples=true"])


@pytest.fixture
def tuned(tmp_path: Path):
    """Fine-tunes for a task and scores it; gives the model's config.json and the record."""

    def run(task: str, scored: str, **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        options = {**SMALL, "out": tmp_path / "model", **changes}
        given = [f"--{name}={value}" for name, value in options.items()]
        cli.run(["finetune", task, f"--config={config_path(f'demo/finetune_{task}.yaml')}", *given])
        score(scored, tmp_path, 30)
        config = json.loads((tmp_path / "model" / "config.json").read_text())
        return config, json.loads((tmp_path / f"{scored}.json").read_text())

    return run


def test_nlvr2_from_fine_tuning_to_the_file_of_predictions(tuned, words: Path, tmp_path: Path, capsys) -> None:
    config, record = tuned("nlvr2", "nlvr2_openclipart", tokenizer=words)
    assert config["kind"] == "nlvr2" and record["samples"] == 30
    said = capsys.readouterr().out
    assert "nlvr2_accuracy" in said and "sentence_only/nlvr2_accuracy" in said
    lines = [line.split(",") for line in (tmp_path / "nlvr2_openclipart.predictions.csv").read_text().splitlines()]
    samples = [json.loads(line) for line in (tmp_path / "nlvr2_openclipart.samples.jsonl").open()]
    assert [name for name, _ in lines] == [sample["identifier"] for sample in samples]
    right = [label == str(sample["label"]) for (_, label), sample in zip(lines, samples, strict=True)]
    assert record["metrics"]["nlvr2_accuracy"] == pytest.approx(sum(right) / 30)
    assert "test_statements/test.jsonl" in record["checksums"] and "test/00008.tar" in record["checksums"]


def test_classification_from_fine_tuning_to_the_confusion(tuned, tmp_path: Path, capsys) -> None:
    config, record = tuned("classification", "classification_openclipart", min_class_count=200)
    assert config["classes"] == ["computers", "flags", "food", "signs and symbols"]
    assert not (tmp_path / "model" / "tokenizer.model").exists() and "tokenizer.model" not in record["checksums"]
    assert "data: 1,979 pictures of 4 classes; 1,501 have no class" in capsys.readouterr().out
    assert record["metrics"]["chance/accuracy@1"] == 0.25 and record["samples"] == 30
    rows = (tmp_path / "classification_openclipart.confusion.csv").read_text().splitlines()
    assert rows[0] == '"is, taken for","computers","flags","food","signs and symbols"' and len(rows) == 5
    assert sum(int(count) for row in rows[1:] for count in row.rpartition('"')[2].split(",")[1:]) == 30
    cli.run(["eval", "report", str(tmp_path), "--out", str(tmp_path / "report.html")])
    score("probe_openclipart", tmp_path, 60)  # any encoder can be probed
    metrics = json.loads((tmp_path / "probe_openclipart.json").read_text())["metrics"]
    assert metrics["train_pictures"] == 60 and 0 <= metrics["linear/accuracy@1"] <= 1
