"""The whole table on 48 pairs: two steps teach nothing, so numbers only have to be the records'."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mm_mhmoe.commands import paper_table as command
from mm_mhmoe.commands import steps
from mm_mhmoe.commands.paper_table_report import ROWS
from mm_mhmoe.commands.parser import configured

SMALL = {"tokenizer": "tokenizer", "visual_tokenizer": "vqkd"}


@pytest.fixture
def small(small_demo, monkeypatch: pytest.MonkeyPatch) -> None:
    def options(function, config: Path, **changes):
        return configured(function, config, **{**small_demo(SMALL.get(config.stem, "pretrain")), **changes})

    for module in (command, steps):
        monkeypatch.setattr(module, "configured", options)


def test_the_table_holds_what_the_records_hold(small, shipped: Path, tmp_path: Path, capsys) -> None:
    out, kept = tmp_path / "runs", tmp_path / "kept"
    command.paper_table(shipped, out, seeds=[0, 1], record=kept)
    table = (out / "table.md").read_text()
    assert table == (kept / "table.md").read_text()
    assert "MH-MoE, the paper" in capsys.readouterr().out
    for row, name in ROWS.items():
        records = [kept / f"seed_{seed}" / row / "masked_openclipart.json" for seed in (0, 1)]
        found = [json.loads(record.read_text())["metrics"] for record in records]
        mean = sum(metrics["texts_perplexity"] for metrics in found) / 2
        line = next(line for line in table.splitlines() if line.startswith(f"| {name} |"))
        assert line.split("|")[3].split("±")[0].strip() == f"{mean:.2f}"
    assert (kept / "activation.png").read_bytes().startswith(b"\x89PNG")
    first = (out / "seed_0" / "dense" / "model.safetensors").stat().st_mtime_ns
    command.paper_table(shipped, out, seeds=[0, 1])
    assert (out / "seed_0" / "dense" / "model.safetensors").stat().st_mtime_ns == first


def test_stamps_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no train/; make it with: mm-mhmoe data build tuxpaint"):
        command.paper_table(tmp_path, tmp_path / "out")
