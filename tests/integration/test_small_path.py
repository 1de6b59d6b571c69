"""The whole path on 48 pairs of the shipped shards, from nothing to the report.

Truth: each file says what made it; two steps teach nothing, so scores only have to be scores.
"""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mm_mhmoe_data.shards import write_shards

from mm_mhmoe import cli
from mm_mhmoe.commands import demo_plan, steps
from mm_mhmoe.commands.demo import demo
from mm_mhmoe.commands.evaluate import evaluate_model
from mm_mhmoe.commands.export import export
from mm_mhmoe.commands.parser import configured
from mm_mhmoe.commands.pretrain import pretrain
from mm_mhmoe.commands.run_logs import read_metrics
from mm_mhmoe.models.checkpoints import load, read_config
from mm_mhmoe.training.interrupted import Interrupted


def test_the_demo_from_shards_to_the_report(small_demo, monkeypatch, tmp_path: Path, capsys) -> None:
    def small(function, config: Path, **changes):
        return configured(function, config, **{**small_demo(config.stem), **changes})

    for module in (demo_plan, steps):
        monkeypatch.setattr(module, "configured", small)
    out = tmp_path / "demo"
    demo(out, seeds=[3], controls="all", record=tmp_path / "record")

    page = (out / "report.html").read_text()
    assert len(page) > 20_000 and "<img" in page and "MH-MoE, pretrained" in page
    report = json.loads((out / "report.json").read_text())
    assert report["test_pairs"] == 48 and report["questions"] > 48
    for role in ("main", "no_pretraining", "dense", "untrained"):
        for task, metric in (("retrieval_openclipart", "image_retrieval_recall@10"), ("vqa_openclipart", "vqa")):
            record = json.loads((out / "seed_3" / role / "eval" / f"{task}.json").read_text())
            assert record == json.loads((tmp_path / "record" / "seed_3" / role / f"{task}.json").read_text())
            assert 0.0 <= record["metrics"][metric] <= 1.0 and record["seed"] == 3
    main = read_config(out / "seed_3" / "main" / "finetune_retrieval")
    assert main["run"]["arguments"]["init"].endswith("main/pretrain") and main["encoder"]["dim"] == 32
    assert read_config(out / "seed_3" / "dense" / "pretrain")["encoder"]["ffn"] == "dense"
    untrained = read_config(out / "seed_3" / "untrained" / "finetune_vqa")["run"]["arguments"]
    assert untrained["init"] is None and untrained["steps"] == 0

    capsys.readouterr()
    first = (out / "seed_3" / "main" / "pretrain" / "model.safetensors").stat().st_mtime_ns
    demo(out, seeds=[3], controls="all")
    assert (out / "seed_3" / "main" / "pretrain" / "model.safetensors").stat().st_mtime_ns == first
    assert "finished earlier" in capsys.readouterr().out


def same(a: Path, b: Path) -> bool:
    ours, theirs = load(a).state_dict(), load(b).state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_a_stopped_pretraining_is_exported_and_goes_on(parts, small_config, tmp_path: Path, monkeypatch) -> None:
    from mm_mhmoe_data.datamodules import PretrainDataModule

    def arguments(out: str):
        return small_config(pretrain, "pretrain", out=tmp_path / out, steps=4, **{"encoder.drop_path": 0.3}, **parts)

    pretrain(**arguments("whole"))
    make = PretrainDataModule.make_batch

    def stop_at_two(self, step: int, empty):
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return make(self, step, empty)

    with monkeypatch.context() as patch:
        patch.setattr(PretrainDataModule, "make_batch", stop_at_two)
        with pytest.raises(Interrupted) as stopped:
            pretrain(**arguments("cut"))
    export(tmp_path / "cut", tmp_path / "early")
    assert read_config(tmp_path / "early")["run"]["stopped_at_step"] == stopped.value.step
    assert (tmp_path / "early" / "tokenizer.model").is_file()
    pretrain(**arguments("cut"))
    assert same(tmp_path / "cut", tmp_path / "whole") and not same(tmp_path / "early", tmp_path / "whole")
    assert not (tmp_path / "cut" / "checkpoints").exists()
    export(tmp_path / "cut", tmp_path / "copy")
    assert same(tmp_path / "copy", tmp_path / "whole")
    assert read_config(tmp_path / "copy")["run"] == read_config(tmp_path / "cut")["run"]
    with pytest.raises(ValueError, match="exists"):
        export(tmp_path / "cut", tmp_path / "copy")


def test_perplexity_is_that_of_the_masked_losses(
    parts, small_config, shipped: Path, small_demo, tmp_path: Path
) -> None:
    """The loss of validation, computed batch by batch in another way, on the same pairs under the same masks."""
    pretrain(**small_config(pretrain, "pretrain", out=tmp_path / "run", val_shards=shipped / "test", **parts))
    evaluate_model(str(tmp_path / "run"), "masked_openclipart", tmp_path / "scores", batch_size=7)
    record = json.loads((tmp_path / "scores" / "masked_openclipart.json").read_text())
    logged = {name: points[-1][1] for name, points in read_metrics(tmp_path / "run").items()}
    for name in ("images", "texts", "pairs_image", "pairs_text"):
        assert record["metrics"][f"{name}_perplexity"] == pytest.approx(
            math.exp(float(logged[f"val/{name}"])), rel=1e-4
        )
        assert record["metrics"][f"{name}_accuracy"] == pytest.approx(logged[f"val/{name}_accuracy"], abs=1e-4)
    assert {"tokenizer.model", "visual_tokenizer/model.safetensors"} <= record["checksums"].keys()
    with pytest.raises(ValueError, match="--visual_tokenizer DIR"):
        evaluate_model(str(tmp_path / "run"), "masked_openclipart", tmp_path / "x", visual_tokenizer=tmp_path)


def test_nothing_to_export(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither a finished model nor a whole checkpoint"):
        export(tmp_path, tmp_path / "out")


PER_RANK = """
import sys
import torch
from mm_mhmoe.commands import pretrain
from mm_mhmoe.training.interrupted import is_first_process
finish = pretrain.finish_run
def finish_and_keep(model, out, *args, **kwargs):
    torch.save(model.state_dict(), f"{out}.{int(not is_first_process())}.pt")
    finish(model, out, *args, **kwargs)
pretrain.finish_run = finish_and_keep
from mm_mhmoe.cli import main
main()
"""


def test_two_processes_train_one_model(pretrain_words, shipped: Path, tmp_path: Path) -> None:
    """The command line under DDP (gloo), as a script like the installed one, which also keeps each rank's weights."""
    changes = {"run.devices": 2, "val_shards": shipped / "val", "run.checkpoint_every": 1}
    words = pretrain_words(tmp_path / "two", **changes)
    script = tmp_path / "command.py"
    script.write_text(PER_RANK)
    done = subprocess.run(
        [sys.executable, str(script), *words],
        capture_output=True,
        text=True,
        timeout=600,  # seconds on an idle machine, minutes on a busy one
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("2/2") == 1  # only the first process speaks
    model = load(tmp_path / "two")
    ranks = [torch.load(tmp_path / f"two.{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert ranks[0].keys() == ranks[1].keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert value.isfinite().all() and torch.equal(ranks[0][name], ranks[1][name])
        assert torch.equal(ranks[0][name], value)
    assert not (tmp_path / "two" / "checkpoints").exists()
    assert read_metrics(tmp_path / "two")["routing/image/diversity"][0][0] == 0  # ranks agreed when to sum up


@pytest.fixture
def call(monkeypatch, capsys):
    def run(words: list[str]) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["mm-mhmoe", *words])
        monkeypatch.setattr(cli, "keep_large_buffers", lambda: False)
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main()
        err = capsys.readouterr().err
        assert "Traceback" not in err
        return int(stop.value.code or 0), err.strip().splitlines()[-1]

    return run


def test_failures_are_one_sentence(pretrain_words, parts, call, samples_of, tmp_path: Path, monkeypatch) -> None:
    def words(**changes) -> list[str]:
        return pretrain_words(changes.pop("out", tmp_path / "run"), **changes)

    def expect(line_words: list[str], *named: str, code: int = 1) -> None:
        found, line = call(line_words)
        assert found == code and line.startswith("mm-mhmoe: error: "), line
        for name in named:
            assert name in line, line

    expect(words(shards=tmp_path / "nowhere"), "nowhere", "shards=")
    (tmp_path / "bad").mkdir()
    write_shards(samples_of(4), tmp_path / "bad", 0, 10)
    (tar,) = (tmp_path / "bad").glob("*.tar")
    tar.write_bytes(tar.read_bytes()[:-1500])
    expect(words(shards=tmp_path / "bad"), str(tar))
    expect(words(tokenizer=tmp_path / "none"), "tokenizer", "mm-mhmoe tokenizer train")
    expect(words(visual_tokenizer=tmp_path / "none"), "none is not a model directory")
    expect(words(**{"encoder.vision.patch_size": 8}), "patch_size=8", "patch_size=16")
    expect(words(batch_images=0, batch_texts=0, batch_pairs=0), "batch_images, batch_texts and batch_pairs")

    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "letter.txt").write_text("dear")
    expect(words(out=foreign), str(foreign), "--out")
    expect(words(out=foreign / "letter.txt"), "letter.txt")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("mm_mhmoe.training.checkpoint_io.write_atomically", full)
        expect(words(), "No space left on device")
    code, line = call(words(**{"run.seed": 5})) if (tmp_path / "run" / "checkpoints").is_dir() else (1, "run.seed")
    assert code == 1 and "run.seed" in line
    expect(["eval", f"--model={parts['visual_tokenizer']}", "--tasks=[vqa_openclipart]", f"--output_path={tmp_path}/e"],
           "visual tokenizer")  # fmt: skip
    expect(["eval", "--model=https://example.org/m", "--tasks=[vqa_openclipart]", "--output_path=e"], "URL")
    expect(["eval", f"--model={tmp_path}", "--tasks=[imagenet]", "--output_path=e"], "imagenet", "vqa_openclipart")


def test_a_stop_is_exit_code_130(pretrain_words, call, tmp_path: Path, monkeypatch) -> None:
    from mm_mhmoe_data.datamodules import PretrainDataModule

    make = PretrainDataModule.make_batch

    def stop(self, step: int, empty):
        if step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return make(self, step, empty)

    monkeypatch.setattr(PretrainDataModule, "make_batch", stop)
    code, line = call(pretrain_words(tmp_path / "run", steps=5))
    assert code == 130 and "stopped after step" in line and ".ckpt" in line and "same command goes on" in line


def test_a_second_signal_ends_at_once(pretrain_words, call, tmp_path: Path, monkeypatch) -> None:
    from mm_mhmoe_data.datamodules import PretrainDataModule

    def stop_twice(self, step: int, empty):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not reached")

    monkeypatch.setattr(PretrainDataModule, "make_batch", stop_twice)
    code, line = call(pretrain_words(tmp_path / "run"))
    assert code == 130 and line == f"mm-mhmoe: {cli.STOPPED}"
