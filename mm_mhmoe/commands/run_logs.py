"""The logs of a run, as the report draws them."""

from __future__ import annotations

import csv
from pathlib import Path

from mm_mhmoe_eval.report_data import Curve, Role


def read_metrics(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Metric name -> (step, value) in the order of the steps, over all parts of a run that was stopped and resumed."""
    rows: dict[str, dict[int, float]] = {}
    for path in sorted((run / "logs" / "csv").glob("from_step_*/metrics.csv")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                for name, value in row.items():
                    if value and name not in ("step", "epoch"):
                        rows.setdefault(name, {})[int(row["step"])] = float(value)
    return {name: sorted(values.items()) for name, values in rows.items()}


def curve(run: Path, metric: str, label: str, role: Role = "other") -> Curve | None:
    """One metric of a run; None when it was never logged."""
    points = read_metrics(run).get(metric)
    if not points:
        return None
    return Curve(label=label, steps=[float(step) for step, _ in points], values=[v for _, v in points], role=role)
