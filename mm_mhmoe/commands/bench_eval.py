from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mm_mhmoe_eval.files import write_text_atomic
from mm_mhmoe_eval.libraries import LIBRARIES
from mm_mhmoe_eval.runner import evaluate
from mm_mhmoe_eval.tasks import load_task
from rich.console import Console
from rich.table import Table

from mm_mhmoe.analysis.timing import Timing, interleave
from mm_mhmoe.commands.evaluate import library_model, own_model
from mm_mhmoe.process import switches

LIMIT = "the model's calls alone"


def bench_eval(
    model: str,
    task: str = "retrieval_openclipart",
    data_dir: Path | None = None,
    batch_size: int = 64,
    limit: int | None = None,
    workers: list[int] | None = None,
    samples: int = 5,
    busy_cores: float = 0.25,
    cpu_time: bool = False,
    out: Path | None = None,
) -> None:
    """Times scoring a task against the model's own forward passes in it: what reading, decoding and metrics cost.

    The first scoring keeps what the model was called with; the limit is the same calls again, on batches that are in
    memory. Contestants take turns, in reversed order every other round; numbers are medians. What ran while other
    programs were busy does not count.

    Args:
        model: as for eval.
        task: name or .yaml file of a task.
        data_dir: directory that the paths in the task's YAML start from; without it, the shipped demo data.
        batch_size: samples at a time.
        limit: only the first so many samples; their batches are kept in memory.
        workers: processes that read ahead, a contestant each. Default: 0, 1, 2.
        samples: runs of each contestant that shall count.
        busy_cores: a run does not count if other programs used more cores than this.
        cpu_time: counts the seconds that this process computes, not those that pass, so that a busy machine does less
            harm. What the workers compute is then not counted: it is what they cost where cores are free.
        out: a JSON file to write.
    """
    judged = library_model(model) if model.startswith(LIBRARIES) else own_model(model)
    todo, numbers = load_task(task), [0, 1, 2] if workers is None else workers
    options: dict[str, Any] = {"data_dir": data_dir, "batch_size": batch_size, "limit": limit}

    def scoring(of: object, number: int) -> Any:
        return evaluate(of, todo, facts=judged.facts, tokenizer=judged.tokenizer, workers=number, **options)

    recorded = Recorded(judged.model)
    count = scoring(recorded, 0).record.samples
    contestants: dict[str, Callable[[], Any]] = {LIMIT: recorded.again}
    for number in numbers:
        contestants[f"scoring, {number} workers"] = lambda number=number: scoring(judged.model, number)  # type: ignore[misc]
    console = Console(highlight=False)
    load, cores = os.getloadavg()[0], os.cpu_count()
    console.print(
        f"{judged.facts.name} on {todo.name}, {count:,} samples; torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads; load {load:.1f} on {cores} cores; {switches()}"
    )
    with console.status("timing"):
        clock = time.process_time if cpu_time else time.perf_counter
        timings = interleave(contestants, samples=samples, busy_cores=busy_cores, max_rounds=3 * samples, clock=clock)
    console.print(_table(timings, count))
    if out is not None:
        rows = {name: timing.against(timings[LIMIT]) for name, timing in timings.items() if timing.samples}
        about = {"model": judged.facts.name, "task": todo.name, "samples": count}
        facts = about | {"cores": cores, "load": load, "cpu_time": cpu_time}
        write_text_atomic(out, json.dumps({**facts, "torch": torch.__version__, "rows": rows}, indent=1) + "\n")


class Recorded:
    """A model that remembers its calls. It has whatever methods the model has."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._model, name)
        if not callable(found) or name in ("tokenizer", "transform"):
            return found

        def call(*arguments: Any) -> Any:
            self._calls.append((found, arguments))
            return found(*arguments)

        return call

    @torch.no_grad()
    def again(self) -> None:
        for method, arguments in self._calls:
            method(*arguments)


def _table(timings: dict[str, Timing], count: int) -> Table:
    table = Table(box=None)
    for name in ("", "samples/s", "of the limit", "range"):
        table.add_column(name, justify="right" if name else "left")
    limit = timings[LIMIT]
    for name, timing in timings.items():
        if not timing.samples:
            table.add_row(name, "busy", "", "")
            continue
        share = limit.median / timing.median
        table.add_row(name, f"{count / timing.median:,.0f}", f"{share:.2f}", f"{timing.spread:.0%}")
    return table
