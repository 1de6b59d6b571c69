from __future__ import annotations

from pathlib import Path

from mm_mhmoe_data.tokenizer import TOKENIZER_FILE
from rich.console import Console
from rich.markdown import Markdown

from mm_mhmoe.commands.analyze import analyze
from mm_mhmoe.commands.paper_table_report import ROWS, write_table
from mm_mhmoe.commands.parser import configured
from mm_mhmoe.commands.pretrain import pretrain
from mm_mhmoe.commands.sources import check_stamps, config_path
from mm_mhmoe.commands.steps import Step, carry_out, run_step, score_step
from mm_mhmoe.commands.tokenizer import train as train_tokenizer
from mm_mhmoe.commands.vqkd import vqkd

CLIP_ART, STAMPS = "masked_openclipart", "masked_tuxpaint"


def paper_table(
    stamps: Path,
    out: Path = Path("runs/paper_table"),
    seeds: list[int] = [0, 1, 2],  # noqa: B006  (jsonargparse shows it as the default; never changed)
    steps: int | None = None,
    record: Path | None = None,
) -> None:
    """The masked multi-modal column of the paper's Table 1 (arXiv 2404.15045) in miniature.

    Pretrains four encoders that differ in their FFNs alone (configs/paper_table), on the shipped clip-art and Tux
    Paint's stamps, and writes out/table.md: perplexity of what is hidden in held-out pictures and captions, experts in
    use, cost. Stopped, the same command goes on.

    Args:
        stamps: what `data build tuxpaint --image_size 96` wrote.
        out: directory for the runs.
        seeds: each trains every encoder anew; the two tokenizers are shared.
        steps: of pretraining, instead of those in configs/paper_table.
        record: directory to copy the table, its figure and the score records to.
    """
    check_stamps(stamps)
    console = Console()
    carry_out(_plan(stamps, out, seeds, steps), console)
    console.print(Markdown(write_table(out, seeds, record=record)))


def _plan(stamps: Path, out: Path, seeds: list[int], steps: int | None) -> list[Step]:
    words, codes, shards = out / "tokenizer", out / "visual_tokenizer", f"demo:train::{stamps}/train"
    shared = {"shards": shards, "tokenizer": words, "visual_tokenizer": codes}
    shared |= {} if steps is None else {"steps": steps}
    config = config_path("paper_table/tokenizer.yaml")
    plan: list[Step] = [
        (
            "text tokenizer",
            words / TOKENIZER_FILE,
            lambda: train_tokenizer(**configured(train_tokenizer, config, out=words, shards=shards)),
        ),
        run_step("visual tokenizer", vqkd, "paper_table/visual_tokenizer", codes, shards=shards),
    ]
    for seed in seeds:
        for row, name in ROWS.items():
            model, scores = out / f"seed_{seed}" / row, out / f"seed_{seed}" / f"{row}_scores"
            title = f"seed {seed}, {name}"
            plan += [
                run_step(title, pretrain, f"paper_table/{row}", model, **shared, **{"run.seed": seed}),
                score_step(f"{title}: clip-art", model, CLIP_ART, scores, seed, visual_tokenizer=codes),
                score_step(f"{title}: stamps", model, STAMPS, scores, seed, visual_tokenizer=codes, data_dir=stamps),
            ]
    first = [str(out / f"seed_{seeds[0]}" / row) for row in ROWS]
    routing = out / "routing"
    plan.append(
        ("experts in use", routing / "analysis.json", lambda: analyze(first[0], routing, compare=first[1:], pictures=0))
    )
    return plan
