"""Truth: the same loss, computed from the logits of all positions and from those of masked ones."""

import math
import time
from pathlib import Path

import pytest
import torch

from mm_mhmoe.analysis import timing
from mm_mhmoe.analysis.workload import Workload
from mm_mhmoe.commands.bench_step import StepBench
from mm_mhmoe.config import EncoderConfig, TextConfig, VisionConfig

CONFIG = EncoderConfig(
    dim=32,
    depth=2,
    num_heads=4,
    ffn_dim=128,
    ffn="dense",
    drop_path=0.0,
    vision=VisionConfig(image_size=16, patch_size=4),
    text=TextConfig(vocab_size=40, max_length=10),
)


@pytest.fixture(scope="module")
def bench() -> StepBench:
    return StepBench(CONFIG, Workload(batch_images=2, batch_texts=2, batch_pairs=2), 24, "step", "fp32", None)


def test_heads_everywhere_give_the_loss_of_heads_at_masked_positions(bench: StepBench) -> None:
    calls = bench.steps()
    losses = [calls[name][0]() for name in ("dense", "dense, heads everywhere")]
    torch.testing.assert_close(*losses)
    weights = [bench.ours["dense"].text_head.weight, bench.ours["dense"].image_head.weight]
    torch.testing.assert_close(*(torch.autograd.grad(loss, weights) for loss in losses))


def test_every_contestant_trains(bench: StepBench) -> None:
    for call, modules in (bench.encoders() | bench.steps()).values():
        call().backward()
        for module in modules:
            assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
            module.zero_grad()


@pytest.mark.parametrize("option", [("--samples", 0), ("--batch", 0)])
def test_options_out_of_range_are_named(call, option: tuple[str, int], tmp_path: Path) -> None:
    code, _, err = call("bench", "step", *option)
    assert code == 1 and f"{option[0][2:]}=0" in err


def test_time_of_the_processor_is_that_of_one_thread(call) -> None:
    code, _, err = call("bench", "step", "--cpu_time=true", "--threads=2")
    assert code == 1 and "use threads=1, not 2" in err


def test_every_sample_of_cpu_time_counts(bench: StepBench, monkeypatch) -> None:
    """Others keep both cores busy, and this process sleeps: neither is seen."""
    others = iter(range(0, 10**9, 1000))
    monkeypatch.setattr(timing, "other_cpu_seconds", lambda: float(next(others)))
    monkeypatch.setattr(bench, "steps", lambda: {"asleep": (lambda: time.sleep(0.3) or weight.sum(), [])})
    weight = torch.ones(1, requires_grad=True)
    rows = bench.measure(1, math.inf, cpu_time=True)
    assert rows["asleep"]["samples"] == 1 and rows["asleep"]["milliseconds"] < 150
