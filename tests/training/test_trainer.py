"""Truth: the docstrings of RunConfig and fit; the logs that a run leaves."""

import csv
from pathlib import Path
from unittest import mock

import pytest
import torch

from mm_mhmoe.training.trainer import RunConfig, choose_precision


@pytest.mark.parametrize(
    ("accelerator", "gpu", "gpu_bf16", "avx", "amx", "expected"),
    [
        ("cpu", True, True, False, False, "32-true"),
        ("cpu", False, False, True, False, "bf16-mixed"),
        ("cpu", False, False, False, True, "bf16-mixed"),
        ("auto", True, True, False, False, "bf16-mixed"),
        ("auto", True, False, True, True, "16-mixed"),
        ("auto", False, False, False, False, "32-true"),
        ("gpu", True, True, False, False, "bf16-mixed"),
    ],
)
def test_automatic_precision(accelerator, gpu, gpu_bf16, avx, amx, expected) -> None:
    with (
        mock.patch.object(torch.cuda, "is_available", return_value=gpu),
        mock.patch.object(torch.cuda, "is_bf16_supported", return_value=gpu_bf16),
        mock.patch.object(torch.cpu, "_is_avx512_bf16_supported", return_value=avx),
        mock.patch.object(torch.cpu, "_is_amx_tile_supported", return_value=amx),
    ):
        assert choose_precision("auto", accelerator) == expected
        on_gpu = gpu and accelerator != "cpu"
        assert choose_precision("16-mixed", accelerator) == ("16-mixed" if on_gpu else "bf16-mixed")
        assert choose_precision("32-true", accelerator) == "32-true"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("devices", 0),
        ("num_nodes", 0),
        ("accumulate", 0),
        ("checkpoint_every", 0),
        ("log_every", 0),
        ("workers", -1),
        ("routing_every", -1),
    ],
)
def test_impossible_runs_are_refused(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"run\.{field}={value} must be"):
        RunConfig(**{field: value})


def test_a_missing_accelerator_is_one_sentence(train, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(ValueError, match=r"run\.accelerator=gpu.*mm-mhmoe env"):
        train(tmp_path, accelerator="gpu")


def test_negative_steps_are_refused(train, tmp_path: Path) -> None:
    """Lightning takes -1 for a run without end."""
    with pytest.raises(ValueError, match="steps=-1"):
        train(tmp_path, steps=-1)


def test_no_steps_leave_the_model_as_it_was(train, vector, tmp_path: Path) -> None:
    torch.manual_seed(0)
    start = vector(train(tmp_path / "a", steps=0)[0])
    trained = vector(train(tmp_path / "b", steps=1)[0])
    assert torch.equal(start, vector(train(tmp_path / "c", steps=0)[0])) and not torch.equal(start, trained)


def rows(out: Path) -> list[dict[str, str]]:
    (path,) = (out / "logs" / "csv").glob("from_step_*/metrics.csv")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_step_is_logged(train, tmp_path: Path) -> None:
    train(tmp_path, steps=3)
    found = [row for row in rows(tmp_path) if row["train/loss"]]
    assert [int(row["step"]) for row in found] == [0, 1, 2]
    for row in found:
        contrastive, balance, router_z = (float(row[f"train/{n}"]) for n in ("contrastive", "balance", "router_z"))
        assert float(row["train/loss"]) == pytest.approx(contrastive + 1e-2 * balance + 1e-3 * router_z, rel=1e-5)
        assert 1.0 <= float(row["train/expert_load"]) <= 4.0
    assert float(found[-1]["train/tokens_per_s"]) > 0
    assert list((tmp_path / "logs" / "tensorboard").rglob("events.out.tfevents.*"))


def test_accumulated_batches_make_one_step(train, tmp_path: Path) -> None:
    made: list[int] = []
    _, trainer = train(tmp_path, steps=2, accumulate=3, before=made.append)
    assert made == list(range(6)) and trainer.global_step == 2
