"""The commands of docs/PRETRAINING.md parse, and those for one CPU run one after the other, on a few of the shipped
pictures and with few steps."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from mm_mhmoe import cli
from mm_mhmoe.commands.parser import command_parser, spelt_out
from mm_mhmoe.commands.sources import data_path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "PRETRAINING.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    """The words behind mm-mhmoe, srun and torchrun's options."""
    lines = "\n".join(re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)).replace("\\\n", " ").splitlines()
    found = [re.search(r"^(?:(?:srun )?mm-mhmoe|torchrun .* -m mm_mhmoe.cli) (.*)", line) for line in lines]
    return [shlex.split(line[1], comments=True) for line in found if line is not None]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_parse(words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "my_run.yaml").symlink_to(ROOT / "configs" / "demo" / "pretrain.yaml")
    found = cli._find(words)
    assert found is not None
    name, leaf = found
    command_parser(cli.load(leaf), name, "").parse_args(spelt_out(words[len(name.split()) :], cli.load(leaf)))


def test_the_way_on_one_cpu(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options that make each step small, and the first files that it must leave."""
    small = {
        "data validate": ("", ""),
        "data overlap": ("", "my-data/leaks.tsv"),
        "data preview": ("", "sheet.png"),
        "tokenizer train": ("", "runs/mine/tokenizer/tokenizer.model"),
        "vqkd --config": (
            "--steps 3 --codebook_start 1 --batch_size 32 --visual_tokenizer.num_codes 64",
            "runs/mine/codes/model.safetensors",
        ),
        "vqkd-view --model": ("--samples 20", "runs/mine/codes_view/codes.png"),
        "pretrain --config": (
            "--steps 2 --batch_images 2 --batch_texts 2 --batch_pairs 2 --run.val_batches 1 --run.resume never",
            "runs/mine/tiny/model.safetensors",
        ),
        "eval --model": ("--limit 20", "runs/mine/scores/my_masked.json"),
    }
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "my-data").mkdir()
    for split, shipped in (("train", "val"), ("val", "test"), ("test", "test")):  # few pictures suffice
        (tmp_path / "my-data" / split).symlink_to(data_path(f"demo:{shipped}"))
    (task,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "my-masked.yaml").write_text(task)
    for start, (options, made) in small.items():
        words = next(words for words in commands() if " ".join(words).startswith(start))
        code, _, err = call(*words, *options.split())
        assert code == 0, err
        assert (tmp_path / made).exists(), start
    assert json.loads((tmp_path / "runs/mine/scores/my_masked.json").read_text())["metrics"]
