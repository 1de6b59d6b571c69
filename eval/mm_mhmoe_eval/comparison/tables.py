"""Rows of a comparison: scores with intervals, and how each row differs from the first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mm_mhmoe_eval.comparison.comparable import check_comparable
from mm_mhmoe_eval.comparison.significance import holm, paired_test
from mm_mhmoe_eval.comparison.systems import System
from mm_mhmoe_eval.metric_names import baselines, lower_is_better, scored_per_sample
from mm_mhmoe_eval.report.numbers import deviation, mean, paired_error
from mm_mhmoe_eval.results import ResultRecord, bootstrap_interval

LEVEL = 0.05

TESTS = (
    "Differences are to the first row. p: paired permutation test on the same samples, adjusted by Holm's method for "
    "all tests of these tables. A difference is clear (▲ better, ▼ worse) where p < .05 and, over several seeds, where "
    "it is also more than twice its standard error over them; ≈ marks the others. Samples are taken as independent."
)
RULE = f"Brackets: 95% bootstrap interval over the test's samples. {TESTS}"

Outcome = Literal["better", "worse", "unclear"]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A row's score minus the first row's. low, high, p, outcome: None where samples cannot be paired.

    p: adjusted for all tests of the comparison.
    """

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A score: mean over seeds, interval over samples, deviation over seeds, difference to the first row."""

    value: float
    seeds: int = 1
    low: float | None = None
    high: float | None = None
    deviation: float | None = None
    difference: Difference | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """cells: by metric. The rest is cost: None for rows that are no model, or where it was not recorded."""

    name: str
    cells: Mapping[str, Cell]
    is_model: bool = True
    parameters_total: int | None = None
    parameters_active: int | None = None
    flops_per_sample: float | None = None
    samples_per_second: float | None = None


@dataclass(frozen=True, kw_only=True)
class TaskTable:
    task: str
    version: int
    samples: int
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]


def compare(systems: Sequence[System], metrics: Sequence[str] | None = None) -> list[TaskTable]:
    """A table of each task that any of the systems was scored on.

    Args:
        systems: rows; the others are held against the first that was scored on a task.
        metrics: which to show; None: those that the task names, or, in records that do not say, those with intervals.

    Raises ValueError when records of a task have other versions or data, or none has any of the metrics.
    """
    tasks = list(dict.fromkeys(record.task for system in systems for record in system.records))
    tables = [_table(task, systems, metrics) for task in tasks]
    shown = [table for table in tables if table.metrics]
    if not shown:
        raise ValueError(f"metrics: none of the records has {', '.join(metrics or [])}")
    return _adjusted(shown)


def _table(task: str, systems: Sequence[System], chosen: Sequence[str] | None) -> TaskTable:
    scored = [(system.name, records) for system in systems if (records := system.of(task))]
    check_comparable(task, scored)
    every = [record for _, records in scored for record in records]
    metrics = tuple(_headline(every) if chosen is None else [n for n in chosen if any(n in r.metrics for r in every)])
    first = scored[0][1]
    rows = []
    for number, (name, records) in enumerate(scored):
        cells = {
            m: _cell(records, first if number else None, m) for m in metrics if all(m in r.metrics for r in records)
        }
        rows.append(_model_row(name, records, cells))
    rows += [
        Row(name=name.replace("_", " "), cells={m: Cell(value=v) for m, v in values.items()}, is_model=False)
        for name, values in baselines(first[0].metrics, list(metrics)).items()
    ]
    return TaskTable(
        task=task, version=every[0].task_version, samples=every[0].samples, metrics=metrics, rows=tuple(rows)
    )


def _headline(records: Iterable[ResultRecord]) -> list[str]:
    names: dict[str, None] = {}
    for record in records:
        names |= dict.fromkeys(record.headline or sorted(record.intervals or record.metrics, key=_as_read))
    return list(names)


def _as_read(name: str) -> list[tuple[str, int]]:
    """@5 before @10."""
    return [(text, int(number or 0)) for text, number in re.findall(r"([^0-9]*)([0-9]*)", name)]


def _model_row(name: str, records: Sequence[ResultRecord], cells: Mapping[str, Cell]) -> Row:
    rates = [record.samples_per_second for record in records if record.samples_per_second]
    return Row(
        name=name,
        cells=cells,
        parameters_total=records[0].parameters_total,
        parameters_active=records[0].parameters_active,
        flops_per_sample=records[0].flops_per_sample,
        samples_per_second=mean(rates) if rates else None,
    )


def _cell(records: Sequence[ResultRecord], first: Sequence[ResultRecord] | None, metric: str) -> Cell:
    values = [record.metrics[metric] for record in records]
    low, high = _interval(records, metric)
    return Cell(
        value=mean(values),
        seeds=len(values),
        low=low,
        high=high,
        deviation=deviation(values),
        difference=None if first is None else _difference(records, first, metric),
    )


def _interval(records: Sequence[ResultRecord], metric: str) -> tuple[float | None, float | None]:
    """Of several seeds, that of their mean: it says nothing about another seed."""
    if len(records) == 1:
        low, high = records[0].intervals.get(metric, (None, None))
        return low, high
    samples = _mean_of_samples(records, metric)
    return bootstrap_interval(samples, seed=0) if samples else (None, None)


def _mean_of_samples(records: Sequence[ResultRecord], name: str) -> list[float]:
    columns = [record.per_sample.get(name, []) for record in records]
    if not all(columns) or len({len(column) for column in columns}) > 1:
        return []
    return [mean(of_sample) for of_sample in zip(*columns, strict=True)]


def _difference(ours: Sequence[ResultRecord], theirs: Sequence[ResultRecord], metric: str) -> Difference | None:
    if not all(metric in record.metrics for record in theirs):
        return None
    our_values, their_values = ([record.metrics[metric] for record in records] for records in (ours, theirs))
    value = mean(our_values) - mean(their_values)
    name = scored_per_sample(metric)
    our_samples, their_samples = _mean_of_samples(ours, name), _mean_of_samples(theirs, name)
    if len(our_samples) != len(their_samples) or len(our_samples) < 2:
        return Difference(value=value)
    tested = paired_test(our_samples, their_samples)
    over_seeds = paired_error(our_values, their_values) if len(our_values) > 1 else None
    steady = over_seeds is None or abs(value) > 2 * over_seeds
    better = (value < 0) if lower_is_better(metric) else (value > 0)
    same_scale = name == metric
    return Difference(
        value=value,
        low=tested.low if same_scale else None,
        high=tested.high if same_scale else None,
        p=tested.p,
        outcome=("better" if better else "worse") if steady else "unclear",
    )


def _adjusted(tables: Sequence[TaskTable]) -> list[TaskTable]:
    """The tables with p values that allow for how many there are, and outcomes by them."""
    tests = [
        cell.difference.p
        for table in tables
        for row in table.rows
        for cell in row.cells.values()
        if cell.difference is not None and cell.difference.p is not None
    ]
    adjusted = iter(holm(tests))

    def judged(cell: Cell) -> Cell:
        difference = cell.difference
        if difference is None or difference.p is None:
            return cell
        p = next(adjusted)
        outcome = difference.outcome if p < LEVEL else "unclear"
        return replace(cell, difference=replace(difference, p=p, outcome=outcome))

    return [
        replace(
            table,
            rows=tuple(
                replace(row, cells={name: judged(cell) for name, cell in row.cells.items()}) for row in table.rows
            ),
        )
        for table in tables
    ]
