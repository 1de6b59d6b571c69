"""Truth: an uninterrupted run. Stopped and resumed, the weights must be its weights, bit for bit."""

import os
import signal
from pathlib import Path

import pytest
import torch

from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.training.callbacks import Checkpoints
from mm_mhmoe.training.interrupted import Interrupted


def steps_in(out: Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("step_")) for path in (out / "checkpoints").glob("*.ckpt"))


def once(step: int, number: int):
    """Sends a signal to this process when batch `step` is made, the first time only."""
    sent = []

    def before(made: int) -> None:
        if made == step and not sent:
            sent.append(made)
            os.kill(os.getpid(), number)

    return before


@pytest.fixture(autouse=True)
def handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    assert {number: signal.getsignal(number) for number in before} == before  # every run puts them back


@pytest.mark.parametrize(("number", "accumulate"), [(signal.SIGTERM, 1), (signal.SIGINT, 2)])
def test_stopped_and_resumed_is_the_same_run(train, vector, tmp_path: Path, number: int, accumulate: int) -> None:
    whole, _ = train(tmp_path / "whole", accumulate=accumulate)
    with pytest.raises(Interrupted) as stopped:
        train(tmp_path / "cut", before=once(3 * accumulate, number), accumulate=accumulate)
    assert 2 <= stopped.value.step <= 4 and f"step {stopped.value.step}" in str(stopped.value)
    assert stopped.value.checkpoint is not None and stopped.value.checkpoint.is_file()
    assert steps_in(tmp_path / "cut")[-1] == stopped.value.step
    made = []
    resumed, trainer = train(tmp_path / "cut", before=made.append, accumulate=accumulate)
    assert made == list(range(stopped.value.step * accumulate, 6 * accumulate))
    assert trainer.global_step == 6
    assert torch.equal(vector(resumed), vector(whole))


def test_steps_do_not_share_their_noise(train, vector, tmp_path: Path) -> None:
    """Stochastic depth draws anew at every step, and the run's seed decides what."""
    seeds = [vector(train(tmp_path / str(n), steps=2, seed=seed)[0]) for n, seed in enumerate((0, 0, 1))]
    assert torch.equal(seeds[0], seeds[1]) and not torch.equal(seeds[0], seeds[2])


def test_the_last_two_checkpoints_are_kept(train, tmp_path: Path) -> None:
    train(tmp_path, checkpoint_every=1)
    assert steps_in(tmp_path) == [5, 6]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        f"step_0000000{n}.{kind}" for n in (5, 6) for kind in ("ckpt", "sha256")
    ]


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(train, vector, tmp_path: Path) -> None:
    whole, _ = train(tmp_path)
    newest = tmp_path / "checkpoints" / "step_00000006.ckpt"
    content = newest.read_bytes()
    newest.write_bytes(content[: len(content) // 2])
    made = []
    resumed, _ = train(tmp_path, before=made.append)
    assert made == [4, 5]
    assert torch.equal(vector(resumed), vector(whole))
    assert torch.load(newest, weights_only=True)["global_step"] == 6  # written anew


def test_no_checkpoint_lies_between_accumulated_batches(train, tmp_path: Path) -> None:
    train(tmp_path, steps=4, accumulate=3, checkpoint_every=1)
    for path in (tmp_path / "checkpoints").glob("*.ckpt"):
        checkpoint = torch.load(path, weights_only=True)
        (batches,) = [v["batches"] for v in checkpoint.values() if isinstance(v, dict) and "batches" in v]
        assert batches == 3 * checkpoint["global_step"]


def test_a_checkpoint_describes_its_model(train, config, tmp_path: Path) -> None:
    train(tmp_path, steps=2)
    import json

    description = json.loads(
        torch.load(tmp_path / "checkpoints" / "step_00000002.ckpt", weights_only=True)["model_description"]
    )
    assert description["kind"] == "retrieval"
    assert EncoderConfig.from_dict(description["encoder"]) == config(depth=3, drop_path=0.4)


def test_checkpoint_every_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="checkpoint_every=0"):
        Checkpoints(tmp_path, every=0)
