"""A real, minuscule run: a retrieval model on made-up pairs, with stochastic depth on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from mm_mhmoe_data.datamodules import StepDataModule

from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.models.tasks import RetrievalModel
from mm_mhmoe.training.modules import RetrievalModule
from mm_mhmoe.training.optim import OptimConfig
from mm_mhmoe.training.trainer import RunConfig, fit


class Pairs(StepDataModule):
    """Batch `step` is a function of the step. `before(step)` is called when it is made."""

    def __init__(self, make: Callable[[int], ImageTextBatch], num_steps: int, before: Callable[[int], Any]) -> None:
        super().__init__(num_steps=num_steps)
        self.make = make
        self.before = before

    def make_batch(self, step: int, empty: Any = None) -> ImageTextBatch:
        self.before(step)
        return self.make(step)


@pytest.fixture
def train(config, stream) -> Callable[..., tuple[RetrievalModel, L.Trainer]]:
    settings = {field.name for field in fields(OptimConfig)}

    def run(
        out: Path,
        *,
        steps: int = 6,
        before: Callable[[int], Any] = lambda step: None,
        make: Any = None,
        encoder: dict[str, Any] = {},  # noqa: B006  (only read)
        **options: Any,
    ) -> tuple[RetrievalModel, L.Trainer]:
        given = {"accelerator": "cpu", "precision": "32-true", "checkpoint_every": 2, "log_every": 1, **options}
        run_config = RunConfig(**{name: value for name, value in given.items() if name not in settings})
        torch.manual_seed(0)
        model = RetrievalModel(config(**{"depth": 3, "drop_path": 0.4, **encoder}), 4)
        optim = OptimConfig(**{"lr": 1e-2, "warmup_steps": 1, **{k: v for k, v in options.items() if k in settings}})
        data = Pairs(make or (lambda step: stream(rows=4, seed=step)), steps * run_config.accumulate, before)
        module = RetrievalModule(model, optim, steps=steps)
        return model, fit(module, data, title="test", steps=steps, out=out, run=run_config, optim=optim)

    return run


@pytest.fixture
def vector() -> Callable[[torch.nn.Module], torch.Tensor]:
    return lambda model: torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()
