"""Building a plan: shards in parallel, going on where a killed build was, the same bytes every time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import as_completed
from contextlib import closing
from pathlib import Path
from typing import Any

from ..parallel import worker_count, worker_pool
from .bar import Bar
from .finish import write_rest
from .plan import Dropped, Plan, ShardJob, sample_key, shard_jobs
from .shard_work import make_shard
from .state import BuildState, Finished
from .versions import made_with

__all__ = ["Dropped", "Plan", "ShardJob", "run_plan", "sample_key", "shard_jobs"]


def run_plan(
    plan: Plan,
    out: Path,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write everything that `plan` says to `out`; returns the manifest.

    `workers` processes each write a shard at a time (None: one a core). `progress` is called with (shards done,
    shards) instead of the progress bar. Shards that an earlier, stopped call finished are kept if their size,
    beginning and end are as they were written. Bytes depend neither on `workers` nor on interruptions.
    Raises `ValueError` when `out` belongs to something else, and for whatever is wrong with the source.
    """
    count = worker_count(workers)
    if not plan.jobs:
        raise ValueError(f"The source of recipe {plan.recipe} holds no samples. Check the folder and the options.")
    out = Path(out)
    identity = {
        "recipe": plan.recipe,
        "arguments": plan.arguments,
        "source": plan.facts.get("source"),
        "shards": len(plan.jobs),
        "made_with": made_with(),
    }
    with BuildState(out, identity) as state:
        todo = [job for job in plan.jobs if job.path not in state.finished]
        kept = len(plan.jobs) - len(todo)
        bar = Bar(len(plan.jobs), progress, unit="shards", done=kept)
        # closed, so that an interruption within the loop ends the workers too
        with bar as advance, closing(_make_all(todo, out, min(count, len(todo)))) as made:
            for shard in made:
                state.add(shard)
                advance(1, shard.samples)
        order = [job.path for job in plan.jobs]
        manifest = write_rest(plan, out, [state.finished[path] for path in order])
        state.close(order)
    return manifest


def _make_all(jobs: Sequence[ShardJob], out: Path, workers: int) -> Generator[Finished]:
    """Finished shards, in the order in which they are finished."""
    if workers <= 1:
        yield from (make_shard(job, out) for job in jobs)
        return
    with worker_pool(workers) as pool:
        for future in as_completed([pool.submit(make_shard, job, out) for job in jobs]):
            yield future.result()
