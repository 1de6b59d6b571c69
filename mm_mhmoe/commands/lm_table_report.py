"""The table of `lm-table`, from the files that its steps left."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from mm_mhmoe_eval.report.numbers import compact, deviation, mean, paired_error
from mm_mhmoe_eval.results import ResultRecord, read_record

from mm_mhmoe.commands.paper_table_report import cell, wall_seconds
from mm_mhmoe.training.checkpoint_io import write_atomically

Setting = Literal["english", "multilingual"]

ROWS = {
    "dense": "Dense",
    "xmoe": "X-MoE, 8 experts",
    "mhmoe": "MH-MoE, 8 experts",
    "xmoe_32": "X-MoE, 32 experts",
    "mhmoe_32": "MH-MoE, 32 experts",
}
TASKS: dict[Setting, tuple[str, ...]] = {
    "english": ("perplexity_handbook_english", "next_paragraph_handbook_english"),
    "multilingual": ("perplexity_handbook", "next_paragraph_handbook", "translation_handbook"),
}
_TITLES: dict[Setting, str] = {"english": "English", "multilingual": "26 languages"}
_PAIRS = (("mhmoe", "xmoe"), ("mhmoe", "dense"), ("xmoe", "dense"))
_THRESHOLDS = ("0.1", "0.5", "1")
_BASELINES = ("chance", "length", "unigram")

Records = dict[str, dict[str, list[ResultRecord]]]


def seeds_of(row: str, seeds: Sequence[int]) -> list[int]:
    """Rows of 32 experts are trained once."""
    return list(seeds[:1]) if row.endswith("_32") else list(seeds)


def write_table(out: Path, settings: Sequence[Setting], seeds: list[int], *, record: Path | None) -> str:
    """Writes out/table.md, copies it with figures and records to `record`, and returns the Markdown."""
    text = "\n".join(_section(out / setting, setting, seeds) for setting in settings)
    write_atomically(out / "table.md", text.encode())
    if record is not None:
        record.mkdir(parents=True, exist_ok=True)
        shutil.copy(out / "table.md", record)
        for setting in settings:
            to = record / setting
            shutil.copytree(out / setting / "routing", to, dirs_exist_ok=True)
            for row in ROWS:
                for seed in seeds_of(row, seeds):
                    shutil.copytree(_scores(out / setting, seed, row), to / f"seed_{seed}" / row, dirs_exist_ok=True)
    return text


def _scores(out: Path, seed: int, row: str) -> Path:
    return out / f"seed_{seed}" / f"{row}_scores"


def _section(out: Path, setting: Setting, seeds: list[int]) -> str:
    records: Records = {
        row: {
            task: [read_record(_scores(out, seed, row) / f"{task}.json") for seed in seeds_of(row, seeds)]
            for task in TASKS[setting]
        }
        for row in ROWS
    }
    routing = json.loads((out / "routing" / "analysis.json").read_text(encoding="utf-8"))["models"]
    wall = {row: [wall_seconds(out / f"seed_{seed}" / row) for seed in seeds_of(row, seeds)] for row in ROWS}
    perplexity, *choices = TASKS[setting]
    lines = [
        f"## {_TITLES[setting]}",
        "",
        f"Held-out chapters, mean and standard deviation of {len(seeds)} seeds (32 experts: the first seed). Accuracies"
        " are those by bytes, in percent.",
        "",
        f"| | perplexity | bits a byte | {' | '.join(_plain(task) for task in choices)} |",
        f"|---|---|---|{'---|' * len(choices)}",
    ]
    for row, name in ROWS.items():
        found = [cell(records[row][perplexity], "perplexity", 1), cell(records[row][perplexity], "bits_per_byte", 3)]
        found += [_percent(records[row][task], "accuracy_per_byte") for task in choices]
        lines.append(f"| {name} | {' | '.join(found)} |")
    for baseline in _BASELINES:
        found = [_percent(records["dense"][task][:1], f"{baseline}/accuracy") for task in choices]
        lines.append(f"| {baseline} | | | {' | '.join(found)} |")
    return "\n".join([*lines, "", *_costs(records, routing, wall, perplexity), "", *_differences(records, perplexity)])


def _costs(records: Records, routing: dict[str, Any], wall: dict[str, list[float]], task: str) -> list[str]:
    lines = [
        f"| | parameters | active | forward FLOPs of a sequence | "
        f"experts in use above {', '.join(_THRESHOLDS)} even loads | seconds a run |",
        "|---|---|---|---|---|---|",
    ]
    for row, name in ROWS.items():
        first = records[row][task][0]
        used = next(model for model in routing.values() if Path(model["source"]).name == row).get("activation")
        shares = ", ".join(f"{used[at]:.0%}" for at in _THRESHOLDS) if used else "–"
        lines.append(
            f"| {name} | {compact(first.parameters_total or 0)} | {compact(first.parameters_active or 0)} | "
            f"{compact(first.flops_per_sample or 0)} | {shares} | {mean(wall[row]):.0f} |"
        )
    return lines


def _differences(records: Records, task: str) -> list[str]:
    lines = ["Differences in nats a token (negative: the first is better), with twice their standard error:", ""]
    for one, other in _PAIRS:
        a, b = records[one][task], records[other][task]
        nats = [[math.log(record.metrics["perplexity"]) for record in rows] for rows in (a, b)]
        each = [[mean(v) for v in zip(*(record.per_sample["nats"] for record in rows), strict=True)] for rows in (a, b)]
        error = 2 * max(paired_error(*nats) or 0.0, paired_error(*each) or 0.0)
        change = mean(nats[0]) - mean(nats[1])
        text = f"{change:+.3f} ± {error:.3f}"
        lines.append(f"* {ROWS[one]} against {ROWS[other]}: {f'**{text}**' if abs(change) > error else text}")
    return [
        *lines,
        "",
        "In bold: larger than twice its standard error, which is the larger of two: the spread of the difference over "
        "the seeds, and the sampling error of the held-out documents.",
        "",
    ]


def _plain(task: str) -> str:
    return task.removesuffix("_english").removesuffix("_handbook").replace("_", " ")


def _percent(records: list[ResultRecord], metric: str) -> str:
    values = [100 * record.metrics[metric] for record in records]
    spread = deviation(values)
    return f"{mean(values):.1f}" + ("" if spread is None else f" ± {spread:.1f}")
