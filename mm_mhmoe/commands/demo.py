"""The whole path on the shipped clip-art: tokenizers, pretraining, fine-tuning, controls, scores, report."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from mm_mhmoe.commands.demo_plan import Controls, plan, variants
from mm_mhmoe.commands.demo_report import write_demo_report
from mm_mhmoe.commands.steps import carry_out


def demo(
    out: Path = Path("runs/demo"),
    seeds: list[int] = [0],  # noqa: B006  (jsonargparse shows it as the default; never changed)
    controls: Controls = "quick",
    pretrain_steps: int | None = None,
    record: Path | None = None,
) -> None:
    """Runs the whole path on the shipped clip-art and writes out/report.html. Stopped, the same command goes on.

    Args:
        out: directory for everything that the demo makes.
        seeds: each seed trains everything but the two tokenizers anew.
        controls: quick compares with the same fine-tuning without pretraining and with an untrained model; all also
            pretrains and fine-tunes a dense encoder of the same FLOPs per token.
        pretrain_steps: steps of masked pretraining, instead of those in configs/demo/pretrain.yaml.
        record: directory to copy the report and the score records to.
    """
    console = Console()
    rows = variants(controls)
    steps = plan(out, seeds, rows, pretrain_steps)
    started = time.monotonic()
    carry_out(steps, console)
    report = write_demo_report(out, seeds, rows, record=record)
    console.rule("[bold]done", align="left")
    console.print(f"{time.monotonic() - started:.0f} s in this run. Open {report}", highlight=False)
