"""Truth: run_dir.py's docstrings: the same run goes on, another one is refused with what differs."""

import json
import os
from pathlib import Path

import pytest

from mm_mhmoe.commands.run_dir import RUN, finish_run, open_run, plain
from mm_mhmoe.models.checkpoints import CONFIG, load
from mm_mhmoe.models.tasks import RetrievalModel
from mm_mhmoe.training.trainer import RunConfig

ARGUMENTS = {"out": Path("x"), "steps": 3, "run": RunConfig(seed=1), "tokenizer": Path("words"), "init": None}


def test_arguments_are_kept_without_the_place(tmp_path: Path) -> None:
    assert open_run(tmp_path / "a", "vqkd", ARGUMENTS) is True
    kept = json.loads((tmp_path / "a" / RUN).read_text())
    assert kept["command"] == "vqkd" and "out" not in kept["arguments"]
    assert kept["arguments"]["run"]["seed"] == 1 and kept["arguments"]["tokenizer"] == "words"


def test_the_same_run_goes_on_until_it_is_finished(tmp_path: Path, config) -> None:
    out = tmp_path / "a"
    assert open_run(out, "vqkd", ARGUMENTS) is True
    (out / "checkpoints").mkdir()
    assert open_run(out, "vqkd", {**ARGUMENTS, "out": out}) is True  # the place may have another name by now
    model = RetrievalModel(config(), 4)
    finish_run(model, out, {"seed": 1})
    assert open_run(out, "vqkd", ARGUMENTS) is False
    assert {p.name for p in out.iterdir()} == {RUN, CONFIG, "model.safetensors", "README.md"}
    assert load(out).embed_dim == 4


def test_other_settings_are_named_with_both_values(tmp_path: Path) -> None:
    open_run(tmp_path, "vqkd", ARGUMENTS)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ValueError) as error:
        open_run(tmp_path, "vqkd", {**ARGUMENTS, "steps": 4, "run": RunConfig(seed=2)})
    assert "run.seed: 1 there, 2 now; steps: 3 there, 4 now" in str(error.value)
    assert "--out" in str(error.value) and "tokenizer" not in str(error.value)


def test_a_run_that_never_began_may_be_corrected(tmp_path: Path) -> None:
    open_run(tmp_path, "vqkd", ARGUMENTS)
    assert open_run(tmp_path, "vqkd", {**ARGUMENTS, "steps": 4}) is True
    assert json.loads((tmp_path / RUN).read_text())["arguments"]["steps"] == 4


def test_what_does_not_change_the_result_may_differ(tmp_path: Path) -> None:
    open_run(tmp_path, "vqkd", ARGUMENTS)
    (tmp_path / "checkpoints").mkdir()
    other = RunConfig(seed=1, checkpoint_every=7, log_every=3, routing_every=5, workers=2, threads=1)
    assert open_run(tmp_path, "vqkd", {**ARGUMENTS, "run": other}) is True


def test_another_command_is_named(tmp_path: Path) -> None:
    open_run(tmp_path, "vqkd", ARGUMENTS)
    with pytest.raises(ValueError, match=r"holds a run of `vqkd`.*`pretrain`"):
        open_run(tmp_path, "pretrain", ARGUMENTS)


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="not empty and holds no run"):
        open_run(tmp_path, "vqkd", ARGUMENTS)
    with pytest.raises(ValueError, match="not empty and holds no run"):
        open_run(tmp_path / "letter.txt", "vqkd", ARGUMENTS)
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"command": "vqkd"}', "\xff\xfe"])
def test_a_damaged_record_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / RUN).write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=RUN):
        open_run(tmp_path, "vqkd", ARGUMENTS)


def test_config_json_comes_last(tmp_path: Path, config, monkeypatch) -> None:
    """It marks the run as finished; a kill before it must leave an unfinished run with its checkpoints."""
    open_run(tmp_path / "a", "vqkd", ARGUMENTS)
    (tmp_path / "a" / "checkpoints").mkdir()
    moved = []
    rename = os.replace

    def spy(source, target):
        if Path(target).parent == tmp_path / "a":
            moved.append(Path(target).name)
            if moved[-1] == CONFIG:
                raise OSError("No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "replace", spy)
    with pytest.raises(OSError, match="No space"):
        finish_run(RetrievalModel(config(), 4), tmp_path / "a", {})
    assert sorted(moved[:-1]) == ["README.md", "model.safetensors"]
    assert open_run(tmp_path / "a", "vqkd", ARGUMENTS) is True and (tmp_path / "a" / "checkpoints").is_dir()
    assert not [p for p in (tmp_path / "a").iterdir() if p.name.startswith(".")]


def test_plain_values() -> None:
    assert plain({"a": (Path("x"), {1: None})}) == {"a": ["x", {"1": None}]}


def test_other_processes_write_nothing(tmp_path: Path, config, monkeypatch) -> None:
    monkeypatch.setattr("mm_mhmoe.commands.run_dir.is_first_process", lambda: False)
    assert open_run(tmp_path / "a", "vqkd", ARGUMENTS) is True
    finish_run(RetrievalModel(config(), 4), tmp_path, {})
    assert list(tmp_path.iterdir()) == []
