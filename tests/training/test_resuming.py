"""Truth: an uninterrupted run; PyTorch's optimiser, whose settings are read; the errors of RunConfig's docstring."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from mm_mhmoe.training.checkpoint_io import AtomicCheckpointIO
from mm_mhmoe.training.optim import lr_factor
from mm_mhmoe.training.trainer import RunConfig


@pytest.fixture
def other(train, tmp_path: Path) -> Path:
    """The checkpoint at step 4 of another run of 6 steps."""
    train(tmp_path / "other")
    return tmp_path / "other" / "checkpoints" / "step_00000004.ckpt"


def test_never_refuses_where_a_checkpoint_is(train, tmp_path: Path) -> None:
    train(tmp_path, resume="never", steps=2)
    with pytest.raises(ValueError, match=r"resume=never, but .*step_00000002.ckpt is there; use run.resume=latest"):
        train(tmp_path, resume="never")


def test_a_named_checkpoint_goes_on_as_its_own_run_would(train, vector, other: Path, tmp_path: Path) -> None:
    made: list[int] = []
    whole, _ = train(tmp_path / "whole")
    begun, _ = train(tmp_path / "new", resume=str(other), before=made.append)
    assert made == [4, 5] and torch.equal(vector(begun), vector(whole))
    assert (tmp_path / "new" / "logs" / "csv" / "from_step_00000004").is_dir()


def test_own_checkpoints_go_before_a_named_one(train, other: Path, tmp_path: Path) -> None:
    train(tmp_path / "new", resume=str(other), steps=6)
    made: list[int] = []
    train(tmp_path / "new", resume=str(other), steps=6, before=made.append)
    assert made == []


def test_a_named_checkpoint_takes_this_runs_settings(train, other: Path, tmp_path: Path) -> None:
    """Lightning puts back those of the checkpoint."""
    _, trainer = train(tmp_path / "lower", resume=str(other), steps=8, lr=1e-4, weight_decay=0.3, beta1=0.5)
    (optimizer,) = trainer.optimizers
    assert {group["initial_lr"] for group in optimizer.param_groups} == {1e-4}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.3}
    assert {group["betas"] for group in optimizer.param_groups} == {(0.5, 0.98)}
    assert trainer.lr_scheduler_configs[0].scheduler.base_lrs == [1e-4] * len(optimizer.param_groups)
    first = optimizer.state[optimizer.param_groups[0]["params"][0]]
    assert first["step"] == 8  # moments of the first four steps are kept


def test_the_first_step_has_this_runs_rate(train, other: Path, tmp_path: Path) -> None:
    seen: list[float] = []

    def look(optimizer: torch.optim.Optimizer, *_: object) -> None:
        seen.append(optimizer.param_groups[0]["lr"])

    hook = register_optimizer_step_pre_hook(look)
    train(tmp_path / "lower", resume=str(other), lr=1e-4)
    hook.remove()
    assert seen == pytest.approx([1e-4 * lr_factor(s, "cosine", warmup=1, total=6, floor=0.0) for s in (4, 5)])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"steps": 4}, r"has 4 steps, so that steps=4 leaves nothing"),
        ({"name": "sgd"}, r"its optimiser is adamw; use optim.name=adamw"),
        ({"layer_decay": 0.5}, r"grouped otherwise.*optim.layer_decay"),
        ({"accumulate": 2}, r"a step of it had 1 batches; use that as run.accumulate"),
        ({"encoder": {"depth": 2}}, r"another one \(encoder.depth: 3 there, 2 now\).*--init"),
    ],
)
def test_what_does_not_fit_is_refused(train, other: Path, tmp_path: Path, options, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        train(tmp_path / "new", resume=str(other), **options)
    assert not (tmp_path / "new" / "logs").exists()


def test_only_own_checkpoints_are_read(train, other: Path, tmp_path: Path) -> None:
    def expect(path: object, named: str) -> None:
        with pytest.raises(ValueError, match=named):
            train(tmp_path / "new", resume=str(path))

    expect("last", "neither latest, never nor a checkpoint")
    expect(other.parent, "neither latest, never nor a checkpoint")
    copy = tmp_path / "copy.ckpt"
    shutil.copy(other, copy)
    expect(copy, "no checksum beside it")
    shutil.copy(other.with_suffix(".sha256"), copy.with_suffix(".sha256"))
    copy.write_bytes(copy.read_bytes()[:-9])
    expect(copy, "or another one: it is damaged")
    AtomicCheckpointIO().save_checkpoint({"state_dict": {}}, copy)
    expect(copy, "was not written by a run of mm-mhmoe")


@pytest.mark.parametrize("address", ["http://host/step_1.ckpt", "s3://bucket/step_1.ckpt"])
def test_addresses_are_refused(address: str) -> None:
    with pytest.raises(ValueError, match="is an address; checkpoints are read from local files only"):
        RunConfig(resume=address)
