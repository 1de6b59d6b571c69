"""The table of `paper-table`, from the files that its steps left."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

from mm_mhmoe_eval.report.numbers import compact, deviation, mean, paired_error
from mm_mhmoe_eval.results import ResultRecord, read_record

from mm_mhmoe.models.checkpoints import read_config
from mm_mhmoe.training.checkpoint_io import write_atomically

ROWS = {
    "dense": "Dense",
    "xmoe": "X-MoE",
    "mhmoe_flops": "MH-MoE, equal FLOPs",
    "mhmoe_paper": "MH-MoE, the paper's size",
}
TARGETS = {
    "images": "pictures",
    "texts": "captions",
    "pairs_image": "picture in a pair",
    "pairs_text": "caption in a pair",
}
SETS = {"masked_openclipart": "clip-art", "masked_tuxpaint": "stamps"}
_PAIRS = (("mhmoe_flops", "dense"), ("mhmoe_flops", "xmoe"), ("xmoe", "dense"), ("mhmoe_paper", "xmoe"))
_THRESHOLDS = ("0.1", "0.5", "1")


def write_table(out: Path, seeds: list[int], *, record: Path | None) -> str:
    """Writes out/table.md, copies it with figures and records to `record`, and returns the Markdown."""
    scores = {row: [out / f"seed_{seed}" / f"{row}_scores" for seed in seeds] for row in ROWS}
    records = {
        row: {task: [read_record(place / f"{task}.json") for place in places] for task in SETS}
        for row, places in scores.items()
    }
    routing = json.loads((out / "routing" / "analysis.json").read_text(encoding="utf-8"))["models"]
    wall = {row: [wall_seconds(out / f"seed_{seed}" / row) for seed in seeds] for row in ROWS}
    text = _markdown(records, routing, wall, seeds)
    write_atomically(out / "table.md", text.encode())
    if record is not None:
        record.mkdir(parents=True, exist_ok=True)
        shutil.copy(out / "table.md", record)
        for file in ("analysis.json", "activation.png", "expert_load.png"):
            shutil.copy(out / "routing" / file, record)
        for row, places in scores.items():
            for seed, place in zip(seeds, places, strict=True):
                shutil.copytree(place, record / f"seed_{seed}" / row, dirs_exist_ok=True)
    return text


Records = dict[str, dict[str, list[ResultRecord]]]


def _markdown(records: Records, routing: dict[str, Any], wall: dict[str, list[float]], seeds: list[int]) -> str:
    lines = []
    for task, title in SETS.items():
        samples = records["dense"][task][0].samples
        lines += [
            f"Perplexity of what is hidden in {samples} held-out pairs of {title}, mean and standard deviation of "
            f"{len(seeds)} seeds:",
            "",
            f"| | {' | '.join(TARGETS.values())} | all |",
            f"|---|{'---|' * (len(TARGETS) + 1)}",
        ]
        for row, name in ROWS.items():
            cells = [cell(records[row][task], f"{target}_perplexity") for target in TARGETS]
            lines.append(f"| {name} | {' | '.join(cells)} | {cell(records[row][task], 'perplexity')} |")
        lines.append("")
    lines += [
        f"| | parameters | active | forward FLOPs of a pair | "
        f"experts in use above {', '.join(_THRESHOLDS)} even loads | seconds a run |",
        "|---|---|---|---|---|---|",
    ]
    for row, name in ROWS.items():
        first = records[row]["masked_openclipart"][0]
        used = routing[_named(routing, row)].get("activation")
        shares = ", ".join(f"{used[at]:.0%}" for at in _THRESHOLDS) if used else "–"
        lines.append(
            f"| {name} | {compact(first.parameters_total or 0)} | {compact(first.parameters_active or 0)} | "
            f"{compact(first.flops_per_sample or 0)} | {shares} | {mean(wall[row]):.0f} |"
        )
    lines += [
        "",
        "Differences in nats a hidden position (negative: the first is better), with twice their standard error:",
        "",
    ]
    lines += [f"| | {' | '.join(TARGETS.values())} |", f"|---|{'---|' * len(TARGETS)}"]
    for one, other in _PAIRS:
        cells = [_difference(records[one], records[other], target) for target in TARGETS]
        lines.append(f"| {ROWS[one]} against {ROWS[other]}, clip-art | {' | '.join(cells)} |")
    lines += [
        "",
        "A difference larger than twice its standard error is in bold. The error is the larger of two: the spread of "
        "the difference over the seeds, and the sampling error of the held-out pairs, from the differences on the same "
        "pairs.",
    ]
    return "\n".join(lines) + "\n"


def cell(records: list[ResultRecord], metric: str, digits: int = 2) -> str:
    values = [record.metrics[metric] for record in records]
    spread = deviation(values)
    return f"{mean(values):.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")


def _difference(ours: dict[str, list[ResultRecord]], theirs: dict[str, list[ResultRecord]], target: str) -> str:
    a, b = ours["masked_openclipart"], theirs["masked_openclipart"]
    nats = [[math.log(record.metrics[f"{target}_perplexity"]) for record in records] for records in (a, b)]
    samples = [[record.per_sample[f"{target}_nats"] for record in records] for records in (a, b)]
    each = [[mean(values) for values in zip(*by_seed, strict=True)] for by_seed in samples]
    error = 2 * max(paired_error(*nats) or 0.0, paired_error(*each) or 0.0)
    change = mean(nats[0]) - mean(nats[1])
    text = f"{change:+.3f} ± {error:.3f}"
    return f"**{text}**" if abs(change) > error else text


def _named(routing: dict[str, Any], row: str) -> str:
    """The name of a row's model in the analysis, which shortens paths."""
    return next(name for name, model in routing.items() if Path(model["source"]).name == row)


def wall_seconds(run: Path) -> float:
    return float(read_config(run)["run"]["wall_seconds"])
