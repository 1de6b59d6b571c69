"""Truth: torch.nn.utils.clip_grad_norm_; the checkpoint before a skipped step; an uninterrupted run."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from mm_mhmoe.batch import ImageTextBatch, PretrainBatch, VQABatch
from mm_mhmoe.config import MoEConfig
from mm_mhmoe.training.gradient_guard import SKIPPED, GradientGuard, StepSkipped, sample_keys
from mm_mhmoe.training.interrupted import Interrupted, RunFailed
from mm_mhmoe.training.run_warnings import RunWarnings

BIASED = {"moe": MoEConfig(num_experts=4, router="sigmoid_bias", balance_loss_weight=0.0)}


def poisoned(batch: ImageTextBatch) -> ImageTextBatch:
    assert batch.images is not None
    return replace(batch, images=replace(batch.images, pixels_BCHW=batch.images.pixels_BCHW * float("nan")))


@pytest.fixture
def nan_at(stream):
    """Batches of which those at some steps have no finite pixel; keys name step and row."""

    def choose(*steps: int):
        def make(step: int) -> ImageTextBatch:
            batch = replace(stream(rows=4, seed=step), keys=tuple(f"{step}/{row}" for row in range(4)))
            return poisoned(batch) if step in steps else batch

        return make

    return choose


def checkpoint(out: Path, step: int) -> dict[str, Any]:
    return torch.load(out / "checkpoints" / f"step_{step:08d}.ckpt", weights_only=True)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / SKIPPED).read_text().splitlines()]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def without_rate(states: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Optimiser states without the learning rate, which goes on by the schedule."""
    return [
        {**state, "param_groups": [{k: v for k, v in g.items() if k != "lr"} for g in state["param_groups"]]}
        for state in states
    ]


@pytest.mark.parametrize("name", ["adamw", "lamb"])  # lamb counts its steps in the group, not with a parameter
def test_a_skipped_step_changes_nothing(train, nan_at, tmp_path: Path, name: str) -> None:
    """Weights, the optimiser's state, the routers' biases and the averaged weights."""
    train(tmp_path, make=nan_at(5), checkpoint_every=1, ema_decay=0.5, encoder=BIASED, name=name)
    before, after = checkpoint(tmp_path, 5), checkpoint(tmp_path, 6)
    for part in ("state_dict", "current_model_state", "averaging_state"):
        assert same(before[part], after[part]), part
    assert any("bias_E" in key and value.any() for key, value in after["state_dict"].items())
    assert same(without_rate(before["optimizer_states"]), without_rate(after["optimizer_states"]))
    (line,) = lines(tmp_path)
    assert line["step"] == 6 and line["rank"] == 0 and line["gradient_norm"] == "nan"
    assert line["batches"] == [{"loss": "nan", "keys": {"batch": ["5/0", "5/1", "5/2", "5/3"]}}]


def test_one_bad_batch_of_several_spoils_no_step(train, nan_at, tmp_path: Path) -> None:
    """Batch 6 is the first of step 4, at two a step; the run goes on, the average too, with what is finite."""
    model, trainer = train(tmp_path, make=nan_at(6), accumulate=2, ema_decay=0.5, encoder=BIASED)
    assert trainer.global_step == 6 and all(p.isfinite().all() for p in model.state_dict().values())
    (line,) = lines(tmp_path)
    assert line["step"] == 4 and [b["loss"] == "nan" for b in line["batches"]] == [True, False]


@pytest.mark.parametrize("bad", [(3,), (4, 5)])
def test_a_stopped_run_goes_on_as_it_would_have(train, vector, nan_at, tmp_path: Path, bad) -> None:
    """Stopped right behind the skipped step 2, and before it; two batches a step, averaged weights."""
    options = {"make": nan_at(*bad), "accumulate": 2, "ema_decay": 0.5, "encoder": BIASED, "checkpoint_every": 1}
    whole, _ = train(tmp_path / "whole", **options)
    sent: list[int] = []

    def stop(step: int) -> None:
        if step == 3 and not sent:
            sent.append(step)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted) as stopped:
        train(tmp_path / "cut", before=stop, **options)
    assert stopped.value.step == 2
    resumed, _ = train(tmp_path / "cut", **options)
    assert torch.equal(vector(resumed), vector(whole))
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")


def test_too_many_in_a_row_end_the_run(train, nan_at, tmp_path: Path, capsys) -> None:
    bad = (1, 3, 4, 5)
    train(tmp_path / "three", make=nan_at(*bad), max_skipped=3)
    assert [line["step"] for line in lines(tmp_path / "three")] == [2, 4, 5, 6]
    told = capsys.readouterr().out
    assert told.count("warning: step 2: skipped") == 1 and "warning: step 4" not in told  # not again so soon
    with pytest.raises(ValueError, match=r"step 6 .*run.max_skipped=2 .*Lower optim.lr.*--resume") as error:
        train(tmp_path / "two", make=nan_at(*bad), max_skipped=2)
    assert SKIPPED in str(error.value)
    assert all(value.isfinite().all() for value in checkpoint(tmp_path / "two", 4)["state_dict"].values())
    with pytest.raises(ValueError, match="step 6 "):  # those before the checkpoint count
        train(tmp_path / "two", make=nan_at(*bad), max_skipped=2)


@pytest.mark.parametrize("allowed", [0, 1, 3])
def test_so_many_in_a_row_are_skipped_and_no_more(train, nan_at, tmp_path: Path, allowed: int) -> None:
    """All batches from step 2 on are bad: `allowed` steps are skipped, and the next one ends the run."""
    with pytest.raises(RunFailed, match=f"^step {2 + allowed} .*run.max_skipped={allowed} steps"):
        train(tmp_path, make=nan_at(*range(1, 6)), max_skipped=allowed)
    assert [line["step"] for line in lines(tmp_path)] == list(range(2, 3 + allowed))


def stand_in(*, scaler: object = None) -> Any:
    precision = SimpleNamespace(scaler=scaler)
    return SimpleNamespace(precision_plugin=precision, world_size=1, global_step=0, global_rank=0)


@pytest.fixture
def one_step(tmp_path: Path):
    """A layer with a gradient of some size, and a guard at the point where its step begins."""

    def build(size: float, *, clip_norm: float = 0.0, loss: float = 1.0, scaler: object = None):
        torch.manual_seed(0)
        layer = nn.Linear(5, 3)
        for parameter in layer.parameters():
            parameter.grad = size * torch.randn_like(parameter)
        logged: dict[str, float] = {}
        layer.log = lambda name, value: logged.__setitem__(name, float(value))  # type: ignore[assignment]
        guard = GradientGuard(tmp_path, RunWarnings(tmp_path / "w"), clip_norm=clip_norm, max_skipped=9)
        guard.on_before_backward(stand_in(), layer, torch.tensor(loss))  # type: ignore[arg-type]
        guard._keys.append({})
        return (
            layer,
            logged,
            lambda: guard.on_before_optimizer_step(
                stand_in(scaler=scaler),
                layer,
                torch.optim.SGD(layer.parameters()),  # type: ignore[arg-type]
            ),
        )

    return build


@pytest.mark.parametrize(("size", "clip_norm"), [(1.0, 0.5), (1.0, 100.0), (3.0, 0.0)])
def test_clipping_is_torchs_bit_for_bit(one_step, size: float, clip_norm: float) -> None:
    layer, logged, step = one_step(size, clip_norm=clip_norm)
    twin = nn.Linear(5, 3)
    for ours, theirs in zip(layer.parameters(), twin.parameters(), strict=True):
        theirs.grad = ours.grad.clone()
    norm = nn.utils.clip_grad_norm_(twin.parameters(), clip_norm or math.inf)
    step()
    assert logged == {"train/grad_norm": norm.item()}
    for ours, theirs in zip(layer.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


def scaled_by(scale: float) -> Any:
    return SimpleNamespace(get_scale=lambda: scale)


def test_what_counts_as_a_failure(one_step) -> None:
    """An overflow under a loss scale is the scale's own affair, as long as the loss is finite and there is a scale to
    lower."""
    for size, loss, scaler, fails in [
        (1.0, 1.0, None, False),
        (math.inf, 1.0, None, True),
        (1.0, math.inf, None, True),
        (math.inf, 1.0, scaled_by(65536.0), False),
        (math.inf, 1.0, scaled_by(2.0), False),
        (math.inf, 1.0, scaled_by(1.0), True),
        (math.inf, 1.0, scaled_by(0.0), True),
        (1.0, 1.0, scaled_by(0.5), False),
        (math.inf, math.nan, scaled_by(65536.0), True),
    ]:
        _, _, step = one_step(size, loss=loss, scaler=scaler)
        if fails:
            with pytest.raises(StepSkipped):
                step()
        else:
            step()


def test_losses_are_written_without_their_scale(one_step, tmp_path: Path) -> None:
    """What goes into the backward pass is the loss times the scale: 6 at a scale of .5 is a loss of 12."""
    _, _, step = one_step(math.nan, loss=6.0, scaler=scaled_by(0.5))
    with pytest.raises(StepSkipped):
        step()
    assert lines(tmp_path)[0]["batches"] == [{"loss": "12.0", "keys": {}}]


def test_keys_by_stream(stream) -> None:
    images, pairs = (replace(stream(kind), keys=(kind,)) for kind in ("images", "pairs"))
    assert sample_keys(pairs) == {"batch": ["pairs"]}
    assert sample_keys(PretrainBatch(images=images, pairs=pairs)) == {"images": ["images"], "pairs": ["pairs"]}
    assert sample_keys(VQABatch(pairs=pairs, targets_BA=torch.zeros(1, 2))) == {"pairs": ["pairs"]}


def test_two_processes_skip_together(tmp_path: Path) -> None:
    """Over gloo; only the second one's loss is not finite, at step 4. Truth: step 3's checkpoint."""
    script = Path(__file__).with_name("nan_on_one_rank.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("warning: step 4: skipped") == 1
    before, after = checkpoint(tmp_path / "run", 3), checkpoint(tmp_path / "run", 4)
    assert same(without_rate(before["optimizer_states"]), without_rate(after["optimizer_states"]))
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for name, value in before["state_dict"].items():  # the averaged weights, which a finished model has
        assert all(torch.equal(rank[name], value) for rank in ranks), name
    assert same(before["current_model_state"], after["current_model_state"])
    found = sorted(lines(tmp_path / "run"), key=lambda line: line["rank"])
    assert [(line["rank"], line["step"], line["batches"][0]["loss"] == "nan") for line in found] == [
        (0, 4, False),
        (1, 4, True),
    ]
    assert [line["batches"][0]["keys"]["batch"][0] for line in found] == ["rank 0", "rank 1"]
