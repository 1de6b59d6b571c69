"""What a kind of task is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True, kw_only=True)
class ScoredData:
    """Where the data of a task lie and how they are read.

    paths:  by the names of the task's data.
    limit:  only the first so many samples; None: all.
    device: where batches go.
    """

    paths: Mapping[str, str | Path]
    tokenizer: Any
    batch_size: int
    limit: int | None
    device: torch.device | str


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Scores as a record keeps them (`ResultRecord`), one dict a sample, and for VQA the server's results."""

    metrics: dict[str, float]
    intervals: dict[str, list[float]]
    samples: list[dict[str, Any]]
    per_sample: dict[str, list[float]]
    official: list[dict[str, Any]] | None = None
