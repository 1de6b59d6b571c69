from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mm_mhmoe_data.tokenizer import TOKENIZER_FILE
from mm_mhmoe_eval.comparison import compare, read_systems, to_markdown
from rich.console import Console

from mm_mhmoe.commands.compare import print_tables
from mm_mhmoe.commands.eval_report import eval_report
from mm_mhmoe.commands.finetune import captioning, classification, nlvr2, retrieval, vqa
from mm_mhmoe.commands.parser import configured
from mm_mhmoe.commands.pretrain import pretrain
from mm_mhmoe.commands.sources import check_stamps, config_path
from mm_mhmoe.commands.steps import Step, carry_out, run_step, score_step
from mm_mhmoe.commands.tokenizer import train as train_tokenizer
from mm_mhmoe.commands.vqkd import vqkd
from mm_mhmoe.training.checkpoint_io import write_atomically

ROWS = {"mh_moe": "MH-MoE", "dense": "Dense"}


class FineTuning(NamedTuple):
    """A fine-tuning of every encoder, and the tasks that its model is scored on.

    stamps: whether it also learns from Tux Paint's pairs.
    """

    command: Callable[..., None]
    tasks: tuple[str, ...]
    stamps: bool = False


FINE_TUNINGS = (
    FineTuning(retrieval, ("retrieval_openclipart", "zero_shot_openclipart"), stamps=True),
    FineTuning(vqa, ("vqa_openclipart",)),
    FineTuning(nlvr2, ("nlvr2_openclipart",)),
    FineTuning(captioning, ("captioning_openclipart", "captioning_tuxpaint"), stamps=True),
    FineTuning(classification, ("classification_openclipart",)),
)
# What the pretrained encoder is scored on as it is.
FROZEN = ("masked_openclipart", "probe_openclipart")
MULTILINGUAL = "retrieval_tuxpaint_multilingual"


def task_table(
    stamps: Path,
    out: Path = Path("runs/task_table"),
    seeds: list[int] = [0],  # noqa: B006  (jsonargparse shows it as the default; never changed)
    record: Path | None = None,
) -> None:
    """One pretrained MH-MoE encoder and its dense twin of equal FLOPs on every task.

    Pretrains both on the shipped clip-art and Tux Paint's stamps (configs/task_table), fine-tunes them for retrieval,
    questions, sentences about two pictures, captions and classes (configs/demo), scores them beside what can be had
    blindly or by chance, and writes out/table.md and out/report.html. Stopped, the same command goes on.

    Args:
        stamps: what `data build tuxpaint --image_size 96` wrote.
        out: directory for the runs.
        seeds: each pretrains and fine-tunes anew; the tokenizers are shared.
        record: directory to copy table, page and score records to.
    """
    check_stamps(stamps)
    console = Console()
    carry_out(_plan(stamps, out, seeds), console)
    places = [f"{name}={out}/seed_*/{row}/scores" for row, name in ROWS.items()]
    tables = compare(read_systems(places))
    write_atomically(out / "table.md", to_markdown(tables).encode())
    pictures = f"demo:test::{stamps}/test"
    eval_report(places, out / "report.html", shards=pictures, title="One encoder, every task")
    print_tables(tables, console)
    if record is not None:
        record.mkdir(parents=True, exist_ok=True)
        for file in ("table.md", "report.html"):
            shutil.copy(out / file, record)
        for path in sorted(out.glob("seed_*/*/scores/*.json")):
            if not path.name.endswith(".results.json"):
                target = record / path.relative_to(out).parent.parent / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)


def _plan(stamps: Path, out: Path, seeds: list[int]) -> list[Step]:
    words, codes, shards = out / "tokenizer", out / "visual_tokenizer", f"demo:train::{stamps}/train"
    all_words = out / "multilingual_tokenizer"
    plan = [
        _tokenizer_step("text tokenizer", "tokenizer", words, shards),
        _tokenizer_step("text tokenizer of all languages", "multilingual_tokenizer", all_words, f"{stamps}/train"),
        run_step("visual tokenizer", vqkd, "task_table/visual_tokenizer", codes, shards=shards),
    ]
    for seed in seeds:
        for row, name in ROWS.items():
            place, title = out / f"seed_{seed}" / row, f"seed {seed}, {name}"
            shared: dict[str, Any] = {"run.seed": seed}
            encoder = place / "pretrain"
            plan.append(
                run_step(
                    f"{title}: masked pretraining",
                    pretrain,
                    "task_table/pretrain",
                    encoder,
                    **{"shards": shards, "tokenizer": words, "visual_tokenizer": codes, "encoder.ffn": row, **shared},
                )
            )
            plan += [_score(title, encoder, task, place, seed, stamps, codes) for task in FROZEN]
            for tuning in FINE_TUNINGS:
                kind = tuning.command.__name__
                changes: dict[str, Any] = {"init": encoder, "encoder": "null", "tokenizer": words, **shared}
                changes |= {"shards": shards} if tuning.stamps else {}
                plan.append(
                    run_step(
                        f"{title}: fine-tuning, {kind}",
                        tuning.command,
                        f"demo/finetune_{kind}",
                        place / kind,
                        **changes,
                    )
                )
                plan += [_score(title, place / kind, task, place, seed, stamps) for task in tuning.tasks]
            model = place / "multilingual"
            changes = {"tokenizer": all_words, "shards": f"{stamps}/train", "encoder.ffn": row, **shared}
            config = "task_table/retrieval_multilingual"
            plan.append(run_step(f"{title}: captions in all languages", retrieval, config, model, **changes))
            plan.append(_score(title, model, MULTILINGUAL, place, seed, stamps))
    return plan


def _tokenizer_step(title: str, name: str, to: Path, shards: str) -> Step:
    def work() -> None:
        train_tokenizer(**configured(train_tokenizer, config_path(f"task_table/{name}.yaml"), out=to, shards=shards))

    return title, to / TOKENIZER_FILE, work


def _score(title: str, model: Path, task: str, place: Path, seed: int, stamps: Path, codes: Path | None = None) -> Step:
    options: dict[str, Any] = {"data_dir": stamps} if "tuxpaint" in task else {}
    options |= {} if codes is None else {"visual_tokenizer": codes}
    return score_step(f"{title}: {task}", model, task, place / "scores", seed, log_samples=True, **options)
