"""Truth: the recursion of an exponential moving average, by hand over the weights of a run without it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from mm_mhmoe.training.checkpoint_io import newest_checkpoint
from mm_mhmoe.training.interrupted import Interrupted

DECAY = 0.7


def test_the_finished_model_is_the_average(train, vector, tmp_path: Path) -> None:
    seen: list[dict[int, torch.Tensor]] = []

    def look(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        seen.append({id(p): p.detach().clone() for group in optimizer.param_groups for p in group["params"]})

    hook = register_optimizer_step_post_hook(look)
    last, _ = train(tmp_path / "plain")
    hook.remove()
    after = [torch.cat([weights[id(p)].flatten() for p in last.parameters()]) for weights in seen]
    assert len(after) == 6 and torch.equal(after[-1], vector(last))
    average = after[0]
    for weights in after[1:]:
        average = DECAY * average + (1 - DECAY) * weights
    averaged, _ = train(tmp_path / "averaged", ema_decay=DECAY)
    torch.testing.assert_close(vector(averaged), average)
    assert not torch.allclose(vector(averaged), vector(last))


def test_a_stopped_run_goes_on_to_the_same_average(train, vector, tmp_path: Path) -> None:
    whole, _ = train(tmp_path / "whole", ema_decay=DECAY)

    def stop(step: int) -> None:
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        train(tmp_path / "cut", ema_decay=DECAY, before=stop)
    path = newest_checkpoint(tmp_path / "cut" / "checkpoints")
    assert path is not None
    kept = torch.load(path, weights_only=True)
    name = "model.encoder.norm.weight"
    assert not torch.equal(kept["state_dict"][name], kept["current_model_state"][name])
    resumed, _ = train(tmp_path / "cut", ema_decay=DECAY)
    assert torch.equal(vector(resumed), vector(whole))
