from __future__ import annotations

from pathlib import Path
from typing import Any

from mm_mhmoe_data.tokenizer import TOKENIZER_FILE
from rich.console import Console
from rich.markdown import Markdown

from mm_mhmoe.commands.analyze import analyze
from mm_mhmoe.commands.lm import lm
from mm_mhmoe.commands.lm_table_report import ROWS, TASKS, Setting, seeds_of, write_table
from mm_mhmoe.commands.parser import configured
from mm_mhmoe.commands.sources import config_path
from mm_mhmoe.commands.steps import Step, carry_out, run_step, score_step
from mm_mhmoe.commands.tokenizer import train as train_tokenizer

CHANGES: dict[str, dict[str, Any]] = {
    "dense": {"encoder.ffn": "dense"},
    "xmoe": {"encoder.ffn": "moe", "encoder.moe.top_k": 1},
    "mhmoe": {},
    "xmoe_32": {"encoder.ffn": "moe", "encoder.moe.top_k": 1, "encoder.moe.num_experts": 32},
    "mhmoe_32": {"encoder.moe.num_experts": 32},
}
"""What each row changes in configs/pretrain/lm_*_tiny.yaml."""


def lm_table(
    handbook: Path,
    bible: Path | None = None,
    out: Path = Path("runs/lm_table"),
    settings: list[Setting] = ["english", "multilingual"],  # noqa: B006  (jsonargparse shows it; never changed)
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    steps: int | None = None,
    record: Path | None = None,
) -> None:
    """The two language columns of the paper's Table 1 (arXiv 2404.15045) in miniature.

    Trains language models of equal FLOPs a token that differ in their FFNs alone (configs/pretrain/lm_*_tiny.yaml with
    dense FFNs, X-MoE and MH-MoE of 8 experts, and with the first seed of 32), and writes out/table.md: perplexity, bits
    a byte, next paragraphs, translations, experts in use, cost. Stopped, the same command goes on.

    Args:
        handbook: what `data build debian-handbook` wrote.
        bible: what `data build text --layout kjv --language en-US` wrote, as more English text to train on.
        out: directory for the runs.
        settings: english: the handbook's English and the bible; multilingual: the handbook in 26 languages.
        seeds: each trains every model anew; a setting's tokenizer is shared.
        steps: of training, instead of those in the configurations.
        record: directory to copy the table, its figures and the score records to.
    """
    for source in (handbook, *([] if bible is None else [bible])):
        for split in ("train", "test"):
            if not (source / split).is_dir():
                raise ValueError(f"{source} has no {split}/; docs/LANGUAGE.md says how to make it")
    console = Console()
    plan = [step for setting in settings for step in _plan(setting, handbook, bible, out / setting, seeds, steps)]
    carry_out(plan, console)
    console.print(Markdown(write_table(out, settings, seeds, record=record)))


def _plan(
    setting: Setting,
    handbook: Path,
    bible: Path | None,
    out: Path,
    seeds: list[int],
    steps: int | None,
) -> list[Step]:
    words, sources = out / "tokenizer", [handbook]
    if setting == "english" and bible is not None:
        sources.append(bible)
    shards = "::".join(f"{source}/train" for source in sources)
    shared: dict[str, Any] = {"shards": shards, "tokenizer": words, "val_shards": "null"}
    shared |= {} if steps is None else {"steps": steps}
    config = config_path(f"tokenizer/text_{setting}.yaml")
    plan: list[Step] = [
        (
            f"{setting}: tokenizer",
            words / TOKENIZER_FILE,
            lambda: train_tokenizer(**configured(train_tokenizer, config, out=words, shards=shards)),
        )
    ]
    for row, name in ROWS.items():
        for seed in seeds_of(row, seeds):
            model, scores = out / f"seed_{seed}" / row, out / f"seed_{seed}" / f"{row}_scores"
            title = f"{setting}, seed {seed}, {name}"
            changes = {**shared, **CHANGES[row], "run.seed": seed}
            plan.append(run_step(title, lm, f"pretrain/lm_{setting}_tiny", model, **changes))
            plan += [
                score_step(f"{title}: {task}", model, task, scores, seed, data_dir=handbook) for task in TASKS[setting]
            ]
    first, *others = (str(out / f"seed_{seeds[0]}" / row) for row in ROWS)
    test, routing = f"{handbook}/test", out / "routing"
    languages = ["en-US"] if setting == "english" else None
    plan.append(
        (
            f"{setting}: experts in use",
            routing / "analysis.json",
            lambda: analyze(first, routing, shards=test, compare=others, languages=languages),
        )
    )
    return plan
