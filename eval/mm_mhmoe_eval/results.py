"""The record of one evaluation: scores with everything one needs to know what they are scores of."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from mm_mhmoe_eval.files import write_text_atomic

FORMAT = 1
"""Goes up when a field changes its meaning."""


@dataclass(frozen=True, kw_only=True)
class ResultRecord:
    """One model, one task.

    metrics:          name -> value; scores are fractions in [0, 1].
    samples:          what the metrics are means over, for example pictures or questions.
    config:           of the model and the evaluation; config_hash is of this.
    git_hash:         of the code; None outside a checkout; ends in "+" when files had changed.
    flops_per_sample: forward, of one picture-text pair.
    checksums:        data file -> sha256.
    intervals:        name -> [low, high], 95% bootstrap over samples, for some of the metrics.
    per_sample:       name -> the score of each sample in the order of the data, for comparisons of models on the same
                      samples.
    kind:             of the task: how it was scored.
    headline:         metrics that a summary shows first, as the task names them.
    samples_per_second: samples over wall_seconds: reading, model and metric together.
    """

    task: str
    task_version: int
    model: str
    metrics: dict[str, float]
    samples: int
    seed: int
    config: dict[str, Any] = field(default_factory=dict)
    config_hash: str = ""
    model_dir: str | None = None
    git_hash: str | None = None
    parameters_total: int | None = None
    parameters_active: int | None = None
    flops_per_sample: float | None = None
    wall_seconds: float | None = None
    samples_per_second: float | None = None
    kind: str = ""
    headline: list[str] = field(default_factory=list)
    checksums: dict[str, str] = field(default_factory=dict)
    intervals: dict[str, list[float]] = field(default_factory=dict)
    per_sample: dict[str, list[float]] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    date: str = ""
    format: int = FORMAT

    def __post_init__(self) -> None:
        right = hash_config(self.config)
        if not self.config_hash:
            object.__setattr__(self, "config_hash", right)
        elif self.config_hash != right:
            raise ValueError(f"config_hash={self.config_hash} but config has hash {right}; the record was edited")
        for name, value in self.metrics.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(f"metrics.{name}={value!r} is not a finite number")


def hash_config(config: Mapping[str, Any]) -> str:
    """First 12 hex digits of the sha256 of the config as sorted JSON."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_record(record: ResultRecord, path: str | Path) -> None:
    """Writes JSON, at once or not at all."""
    text = json.dumps(asdict(record), ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False)
    write_text_atomic(path, text + "\n")


_KINDS: dict[str, tuple[type, ...]] = {
    "task": (str,),
    "task_version": (int,),
    "model": (str,),
    "metrics": (dict,),
    "samples": (int,),
    "seed": (int,),
    "config": (dict,),
    "config_hash": (str,),
    "model_dir": (str, type(None)),
    "git_hash": (str, type(None)),
    "parameters_total": (int, type(None)),
    "parameters_active": (int, type(None)),
    "flops_per_sample": (int, float, type(None)),
    "wall_seconds": (int, float, type(None)),
    "samples_per_second": (int, float, type(None)),
    "kind": (str,),
    "headline": (list,),
    "checksums": (dict,),
    "intervals": (dict,),
    "per_sample": (dict,),
    "environment": (dict,),
    "date": (str,),
    "format": (int,),
}
_NEEDED = ("task", "task_version", "model", "metrics", "samples", "seed", "format")


def read_record(path: str | Path) -> ResultRecord:
    """Reads what `write_record` wrote. Raises ValueError that names the file and what is wrong with it."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a result record: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} is not a result record: it holds a {type(values).__name__}, not an object")
    missing = [name for name in _NEEDED if name not in values]
    unknown = sorted(set(values) - {f.name for f in fields(ResultRecord)})
    if missing or unknown:
        problems = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has unknown {', '.join(unknown)}"] * bool(
            unknown
        )
        raise ValueError(f"{path} is not a result record: it {' and '.join(problems)}")
    if values["format"] != FORMAT:
        raise ValueError(f"{path} has format={values['format']!r}; this version reads {FORMAT}")
    for name, value in values.items():
        if not isinstance(value, _KINDS[name]) or isinstance(value, bool):
            raise ValueError(f"{path}: {name}={value!r:.60} has the wrong type")
    try:
        return ResultRecord(**values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def git_hash(directory: str | Path) -> str | None:
    """Short commit hash of the checkout that holds the directory, "+" appended when files had changed.

    None outside a checkout.
    """

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(directory), *arguments],
                capture_output=True,
                text=True,
                timeout=10,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "--short=10", "HEAD")
    if not commit:
        return None
    return commit + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def environment() -> dict[str, str]:
    """Versions and machine, as records keep them."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cpus": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def now() -> str:
    """UTC, to the second, ISO 8601."""
    return datetime.now(timezone.utc).replace(microsecond=0).isoformat()


def sha256_file(path: str | Path) -> str:
    """sha256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()


def bootstrap_interval(
    values: Sequence[float],
    *,
    seed: int,
    level: float = 0.95,
    draws: int = 1000,
    statistic: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic of per-sample values.

    Args:
        values: one per sample, for example 0 or 1 for a hit within k.
        seed: of the resampling.
        level: coverage in (0, 1).
        draws: resamples.
        statistic: (draws, samples) -> (draws,); None: the mean.

    Raises ValueError without values or with a level outside (0, 1).
    """
    if len(values) == 0 or not 0 < level < 1 or draws < 1:
        raise ValueError(f"bootstrap needs values, a level in (0, 1) and draws, got {len(values)}, {level}, {draws}")
    values_N = torch.as_tensor(values, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    results = []
    for start in range(0, draws, 64):  # a resample of a large test is as large as the test: some at a time
        count = min(64, draws - start)
        drawn = values_N[torch.randint(len(values_N), (count, len(values_N)), generator=generator)]
        results.append(drawn.mean(1) if statistic is None else statistic(drawn))
    tail = (1 - level) / 2
    low, high = torch.cat(results).double().quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
