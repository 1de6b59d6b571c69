"""Several runs one after the other, of which finished ones are skipped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from mm_mhmoe.commands.evaluate import evaluate_model
from mm_mhmoe.commands.parser import configured
from mm_mhmoe.commands.sources import config_path
from mm_mhmoe.models.checkpoints import CONFIG

Step = tuple[str, Path, Callable[[], Any]]
"""A title, the file that marks it as done, what to do."""


def run_step(title: str, function: Callable[..., None], config: str, target: Path, **changes: Any) -> Step:
    """A training command with a shipped configuration (`demo/vqkd`), some of it changed."""

    def work() -> None:
        function(**configured(function, config_path(f"{config}.yaml"), out=target, **changes))

    return title, target / CONFIG, work


def score_step(title: str, model: Path, task: str, to: Path, seed: int, **options: Any) -> Step:
    def work() -> None:
        evaluate_model(model=str(model), tasks=[task], output_path=to, seed=seed, **options)

    return title, to / f"{Path(task).stem}.json", work


def carry_out(steps: Sequence[Step], console: Console) -> None:
    for number, (title, done, work) in enumerate(steps, start=1):
        console.rule(f"[bold]{number}/{len(steps)}[/]  {title}", align="left")
        if done.exists():
            console.print("finished earlier", style="dim")
            continue
        work()
