"""Captioning on the shipped clip-art, from a minuscule encoder to captions, record and files.

Truth: what lies in the directories; a model that learns eight pictures by heart.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.shards import Sample, write_shards

from mm_mhmoe import cli
from mm_mhmoe.commands.sources import config_path, data_path
from mm_mhmoe.commands.tokenizer import train as train_tokenizer

SMALL = {
    "encoder.dim": 64,
    "encoder.depth": 2,
    "encoder.num_heads": 2,
    "encoder.ffn_dim": 128,
    "encoder.moe.num_experts": 4,
    "encoder.vision.image_size": 48,
    "run.precision": "32-true",
    "run.accelerator": "cpu",
    "init": "null",
}


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of eight pictures with two captions each, and a tokenizer."""
    folder, dataset = tmp_path_factory.mktemp("eight"), ShardDataset(str(data_path("demo:train")))
    samples = []
    for n in range(8):
        both = f"{dataset.caption(n)}\n{dataset.caption(n)}"
        samples.append(Sample(key=f"{n}", parts={"webp": dataset.image_bytes(n), "txt": both.encode()}))
    write_shards(samples, folder / "data" / "train", first_shard=0, samples_per_shard=100)
    (folder / "data" / "dataset_type.txt").write_text("retrieval\n")
    train_tokenizer(out=folder / "tokenizer", shards="demo:train", vocab_size=1500)
    return folder


def test_eight_pictures_are_learnt_by_heart(eight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {
        **SMALL,
        "out": tmp_path / "model",
        "tokenizer": eight / "tokenizer",
        "shards": eight / "data" / "train",
        "steps": 130,
        "batch_size": 32,
        "min_scale": 1.0,
        "drop_worst": 0.0,
        "optim.lr": 3e-3,
        "optim.warmup_steps": 10,
        "run.checkpoint_every": 130,
    }
    given = [f"--{name}={value}" for name, value in options.items()]
    cli.run(["finetune", "captioning", f"--config={config_path('demo/finetune_captioning.yaml')}", *given])
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["kind"] == "captioning" and config["search"]["beams"] == 3
    task = tmp_path / "mine.yaml"
    task.write_text(
        "{name: mine, version: 1, kind: captioning, description: eight pictures, data: {test: data/train}, "
        "metrics: [cider_python, distinct_captions]}\n"
    )
    where = [f"--model={tmp_path / 'model'}", f"--data_dir={eight}", f"--output_path={tmp_path}"]
    cli.run(["eval", f"--tasks={task}", *where, "--log_samples=true"])
    assert "cider_python" in capsys.readouterr().out
    record = json.loads((tmp_path / "mine.json").read_text())
    samples = [json.loads(line) for line in (tmp_path / "mine.samples.jsonl").open()]
    right = [sample["caption"] == sample["references"][0] for sample in samples]
    assert sum(right) >= 6, [(sample["caption"], sample["references"]) for sample in samples]
    assert record["samples"] == 8 and record["metrics"]["rouge_l_python"] > 0.8
    rows = json.loads((tmp_path / "mine.results.json").read_text())
    assert rows == [{"image_id": sample["image_id"], "caption": sample["caption"]} for sample in samples]


def test_shares_out_of_range_are_refused(eight: Path, tmp_path: Path) -> None:
    given = [f"--{name}={value}" for name, value in SMALL.items()]
    config = f"--config={config_path('demo/finetune_captioning.yaml')}"
    out = [f"--out={tmp_path / 'model'}", f"--tokenizer={eight / 'tokenizer'}"]
    with pytest.raises(ValueError, match=r"smoothing=1.0 must lie in \[0, 1\)"):
        cli.run(["finetune", "captioning", config, *out, *given, "--smoothing=1.0"])
    assert not (tmp_path / "model").exists()
