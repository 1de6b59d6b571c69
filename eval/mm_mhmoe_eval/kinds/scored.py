"""What a kind of task is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mm_mhmoe_data.transforms import Transform

from mm_mhmoe_eval.protocol import HasInputs


@dataclass(frozen=True, kw_only=True)
class ScoredData:
    """Where the data of a task lie and how they are read.

    paths:     by the names of the task's data.
    limit:     only the first so many samples; None: all.
    device:    where batches go.
    options:   of the task, all that its kind has (`Kind.options`).
    transform: brings pictures to the model's size; None: as the project does it.
    workers:   processes that read ahead.
    """

    paths: Mapping[str, str | Path]
    tokenizer: Any
    batch_size: int
    limit: int | None
    device: torch.device | str
    options: Mapping[str, Any] = field(default_factory=dict)
    transform: Transform | None = None
    workers: int = 0

    def inputs(self, model: HasInputs) -> dict[str, Any]:
        """How the functions of `mm_mhmoe_data.ordered` make batches for the model."""
        return {
            "tokenizer": self.tokenizer,
            "vision": model.vision,
            "text": model.text,
            "batch_size": self.batch_size,
            "transform": self.transform,
            "workers": self.workers,
        }


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Scores as a record keeps them (`ResultRecord`), and one dict a sample.

    files: ending -> text of further files beside the record, such as the results that a test server takes
        (`results.json`).
    """

    metrics: dict[str, float]
    intervals: dict[str, list[float]]
    samples: list[dict[str, Any]]
    per_sample: dict[str, list[float]]
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of tasks.

    needs:    names of the data without which nothing can be scored.
    together: names of the data that replace the task's own only all at once: they describe one another.
    options:  what a task can set under `options`, with the values where it does not.
    protocol: of protocol.py, what it asks of a model.
    """

    score: Callable[[Any, ScoredData], Scored]
    needs: tuple[str, ...] = ("test",)
    together: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    protocol: type | None = None
