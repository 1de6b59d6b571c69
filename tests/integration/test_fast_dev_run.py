"""Truth: what lies in the directories before and after, and the number of batches that were made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from mm_mhmoe_data.datamodules import PretrainDataModule, StepDataModule

from mm_mhmoe import cli
from mm_mhmoe.commands.sources import config_path
from mm_mhmoe.training.modules import PretrainModule

COMMANDS = {
    "vqkd": "vqkd",
    "pretrain": "pretrain",
    "finetune retrieval": "finetune_retrieval",
    "finetune vqa": "finetune_vqa",
    "finetune captioning": "finetune_captioning",
}


@pytest.fixture
def tried(small_demo, parts, tmp_path: Path, capsys):
    """Runs a training command with --fast_dev_run in front of 50 steps; gives what it said."""

    def run(command: str, *words: str, **changes: object) -> str:
        config = COMMANDS[command]
        options = {**small_demo(config), "steps": 50, "out": tmp_path / "run", **changes}
        if config != "vqkd":
            options["tokenizer"] = parts["tokenizer"]
        if config == "pretrain":
            options["visual_tokenizer"] = parts["visual_tokenizer"]
        if config.startswith("finetune"):
            options["init"] = "null"
        capsys.readouterr()
        given = [f"--{name}={value}" for name, value in options.items()]
        cli.run([*command.split(), *words, f"--config={config_path(f'demo/{config}.yaml')}", *given])
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_two_steps_and_nothing_is_left(command: str, tried, tmp_path: Path, monkeypatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    before = sorted(tmp_path.rglob("*"))
    told = (
        tried(command, "--fast_dev_run", codebook_start=40) if command == "vqkd" else tried(command, "--fast_dev_run")
    )
    assert "2/2" in told and "fast_dev_run: all of it ran: 2 steps" in told and "50" not in told
    assert sorted(tmp_path.rglob("*")) == before and os.listdir(scratch) == []


def test_one_batch_of_validation(tried, tmp_path: Path, monkeypatch) -> None:
    seen = []
    step = PretrainModule.validation_step
    monkeypatch.setattr(PretrainModule, "validation_step", lambda *args: (seen.append(args[2]), step(*args)))
    monkeypatch.setattr(PretrainDataModule, "VAL_BATCH", 10)  # five batches, of which one is to be seen
    told = tried("pretrain", "--fast_dev_run", "true", val_shards="demo:val")
    assert seen == [0] and "1 batch of validation" in told


def test_a_run_that_is_under_way_is_left_alone(tried, tmp_path: Path) -> None:
    """Also one of other settings, which the command would refuse to go on with."""
    out = tmp_path / "run"
    (out / "checkpoints").mkdir(parents=True)
    (out / "run.json").write_text('{"command": "pretrain", "arguments": {"steps": 1}}')
    tried("pretrain", "--fast_dev_run")
    assert (out / "run.json").read_text() == '{"command": "pretrain", "arguments": {"steps": 1}}'


def test_what_fails_later_fails_now(tried, monkeypatch) -> None:
    def broken(self: StepDataModule, *_: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(PretrainDataModule, "make_batch", broken)
    with pytest.raises(OSError, match="the disk is gone"):
        tried("pretrain", "--fast_dev_run")
