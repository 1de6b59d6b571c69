"""Truth: cases worked by hand. Uneven loads are made by gates that cannot tell tokens apart."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mm_mhmoe.commands.run_logs import read_metrics
from mm_mhmoe.config import MoEConfig
from mm_mhmoe.models.tasks import RetrievalModel
from mm_mhmoe.nn import TopKRouter
from mm_mhmoe.training.health import RunningMedian, code_advice, collapse_advice, spike_advice
from mm_mhmoe.training.health_log import HealthLog
from mm_mhmoe.training.modules import RetrievalModule
from mm_mhmoe.training.optim import OptimConfig
from mm_mhmoe.training.routing_log import RoutingLog
from mm_mhmoe.training.run_warnings import RunWarnings


def test_median_of_the_last_values() -> None:
    median = RunningMedian(window=3, least=2)
    median.add(5.0)
    assert median.value is None
    for value in (1.0, 9.0, 2.0):
        median.add(value)
    assert median.value == 2.0  # of 1, 9, 2


def test_a_spike_is_half_as_much_again() -> None:
    assert spike_advice(3.0, 2.0) == "" and spike_advice(9.0, None) == "" and spike_advice(9.0, -1.0) == ""
    told = spike_advice(3.2, 2.0)
    assert "the loss is 3.2, 1.6 times its median" in told and "lower optim.lr" in told


def test_collapse_by_layer() -> None:
    """Eight experts. Four of them evenly: entropy log 4 / log 8 = 2/3, half of them used. One with all but 1%: used by
    the others less than a tenth of the even eighth."""
    even = torch.ones(8)
    half = torch.tensor([1.0, 1, 1, 1, 0, 0, 0, 0])
    one = torch.tensor([99.0, 1, 0, 0, 0, 0, 0, 0])
    skewed = torch.tensor([200.0, 3, 3, 3, 3, 3, 3, 3])  # p = 200/221: (.090 + .095 * 4.30) / ln 8 = .24
    assert collapse_advice({1: even, 3: half}) == "" and collapse_advice({}) == ""
    told = collapse_advice({1: even, 3: one, 5: skewed})
    assert "layer 4 (12%, entropy 0.03)" in told and "layer 6 (100%, entropy 0.24)" in told  # counted from 1
    assert "layer 2" not in told and "moe.balance_loss_weight" in told


def test_collapse_of_a_pool() -> None:
    """Few texts beside many pictures are no collapse, nor is a pool that nobody needs; one idle expert of two is."""
    even = {(1, "image"): torch.ones(8) * 900, (1, "text"): torch.ones(8), (1, "pair"): torch.zeros(8)}
    assert collapse_advice(even) == ""
    told = collapse_advice({**even, (1, "text"): torch.tensor([9.0, 0, 0, 0, 0, 0, 0, 0])})
    assert "layer 2 text (12%, entropy 0.00)" in told and "layer 2 image" not in told


def test_unused_codes() -> None:
    assert code_advice(0.5) == "" and "30% of the codes" in code_advice(0.3)


def test_a_kind_of_warning_waits(tmp_path: Path, capsys) -> None:
    warn = RunWarnings(tmp_path / "logs" / "w.jsonl", every=10)
    for step in range(1, 25):
        warn.say(step, "a", "first")
        warn.say(step, "b", "second" if step == 5 else "")
    found = [json.loads(line) for line in (tmp_path / "logs" / "w.jsonl").read_text().splitlines()]
    assert [(row["step"], row["kind"]) for row in found] == [(1, "a"), (5, "b"), (11, "a"), (21, "a")]
    assert capsys.readouterr().out.splitlines()[1] == "warning: step 5: second"


def watched(tmp_path: Path, losses: list[float], codes: dict[int, float], skipped: set[int]) -> list[dict[str, Any]]:
    guard = SimpleNamespace(skipped=False, norm=1.0)
    log = HealthLog(guard, RunWarnings(tmp_path / "w.jsonl"))  # type: ignore[arg-type]
    module = SimpleNamespace(log=lambda *_: None)
    for step, loss in enumerate(losses, start=1):
        metrics = {"train/loss": torch.tensor(loss)} | ({"train/codes_used": codes[step]} if step in codes else {})
        guard.skipped = step in skipped
        log.on_train_batch_start(SimpleNamespace(global_step=step - 1))  # type: ignore[arg-type]
        log.on_train_batch_end(SimpleNamespace(global_step=step, callback_metrics=metrics), module)  # type: ignore[arg-type]
    path = tmp_path / "w.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_spike_in_a_run(tmp_path: Path) -> None:
    losses = [4.0] * 40
    losses[4], losses[24], losses[29] = 9.0, float("nan"), 7.0
    found = watched(tmp_path, losses, {}, {25})
    assert [(row["step"], row["kind"]) for row in found] == [
        (30, "loss_spike")
    ]  # step 5 comes before there is a median


def test_unused_codes_in_a_run(tmp_path: Path) -> None:
    found = watched(tmp_path, [1.0] * 9, {3: 0.9, 6: 0.2, 7: 0.1}, set())
    assert [(row["step"], row["kind"]) for row in found] == [(6, "unused_codes")]


def test_the_median_of_norms_goes_on_after_a_stop(train, tmp_path: Path) -> None:
    train(tmp_path / "whole")
    train(tmp_path / "cut")
    for path in (tmp_path / "cut" / "checkpoints").glob("step_00000006.*"):
        path.unlink()
    train(tmp_path / "cut")
    whole, cut = (read_metrics(tmp_path / name) for name in ("whole", "cut"))
    assert cut["train/grad_norm_median"] == whole["train/grad_norm_median"]
    norms = [value for _, value in whole["train/grad_norm"]]
    assert whole["train/grad_norm_median"][2][1] == pytest.approx(sorted(norms[:3])[1])


@pytest.mark.parametrize(("collapsed", "step", "told"), [(True, 4, 1), (True, 1, 0), (False, 4, 0)])
def test_collapsed_routers_in_a_run(config, stream, tmp_path: Path, capsys, collapsed, step: int, told: int) -> None:
    """Gates without weights send every sub-token to the same two of eight experts."""
    torch.manual_seed(0)
    moe = MoEConfig(num_experts=8, heads=4, every=1)
    module = RetrievalModule(RetrievalModel(config(moe=moe), 4), OptimConfig(), steps=1)
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    routers = [part for part in module.modules() if isinstance(part, TopKRouter)]
    assert len(routers) == 2
    if collapsed:
        torch.nn.init.zeros_(routers[1].gate.weight)
    strategy = SimpleNamespace(reduce=lambda sums, **_: sums)
    trainer: Any = SimpleNamespace(global_step=step, strategy=strategy, loggers=[])
    log = RoutingLog(RunWarnings(tmp_path / "w.jsonl"), every=1)
    log.on_train_batch_end(trainer, module, module.training_step(stream(rows=16), 0), None, 0)
    out = capsys.readouterr().out
    assert out.count(f"warning: step {step}: routers use few of their experts: layer 2 (25%, entropy 0.33)") == told
