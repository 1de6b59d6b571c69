"""What the demo does, step by step: every row of its score table, and the runs behind it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mm_mhmoe_data.tokenizer import TOKENIZER_FILE
from mm_mhmoe_eval.report_data import Role

from mm_mhmoe.commands.finetune import retrieval, vqa
from mm_mhmoe.commands.parser import configured
from mm_mhmoe.commands.pretrain import pretrain
from mm_mhmoe.commands.sources import config_path
from mm_mhmoe.commands.steps import Step, run_step, score_step
from mm_mhmoe.commands.tokenizer import train as train_tokenizer
from mm_mhmoe.commands.vqkd import vqkd

Controls = Literal["quick", "all"]
RETRIEVAL, VQA = "finetune_retrieval", "finetune_vqa"
TASKS = ("retrieval_openclipart", "vqa_openclipart")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One row of the demo's score table.

    Args:
        role: what the row stands for, and its directory.
        name: as printed.
        note: a few words under the name.
        ffn: of its encoder.
        pretrained: whether it starts from masked pretraining.
        trained: whether it is fine-tuned.
    """

    role: Role
    name: str
    note: str
    ffn: Literal["mh_moe", "dense"] = "mh_moe"
    pretrained: bool = True
    trained: bool = True

    def place(self, out: Path, seed: int) -> Path:
        return out / f"seed_{seed}" / self.role

    def runs(self) -> list[str]:
        """The runs behind the row, as directories in its place."""
        return [*(["pretrain"] if self.pretrained else []), RETRIEVAL, VQA]


MAIN = Variant(role="main", name="MH-MoE, pretrained", note="masked pretraining, then fine-tuning")
NO_PRETRAINING = Variant(
    role="no_pretraining",
    name="MH-MoE, not pretrained",
    note="the same fine-tuning from random weights",
    pretrained=False,
)
DENSE = Variant(
    role="dense", name="Dense, pretrained", note="dense FFN of the same FLOPs per token, same steps", ffn="dense"
)
UNTRAINED = Variant(role="untrained", name="Untrained", note="random weights", pretrained=False, trained=False)


def variants(controls: Controls) -> list[Variant]:
    """The main row and its controls; the dense one, which pretrains a second encoder, only with `all`."""
    return [MAIN, NO_PRETRAINING, *([DENSE] if controls == "all" else []), UNTRAINED]


def plan(out: Path, seeds: list[int], rows: list[Variant], pretrain_steps: int | None = None) -> list[Step]:
    """Every step as (title, the file that marks it as done, what to do)."""
    tokenizer, codes = out / "tokenizer", out / "visual_tokenizer"
    steps = [
        (
            "text tokenizer: SentencePiece on captions and questions",
            tokenizer / TOKENIZER_FILE,
            lambda: train_tokenizer(**configured(train_tokenizer, config_path("demo/tokenizer.yaml"), out=tokenizer)),
        ),
        run_step("visual tokenizer: a code for every patch", vqkd, "demo/vqkd", codes),
    ]
    for seed in seeds:
        for row in rows:
            steps += _row_steps(out, seed, row, tokenizer, codes, pretrain_steps)
    return steps


def _row_steps(
    out: Path, seed: int, row: Variant, tokenizer: Path, codes: Path, pretrain_steps: int | None
) -> list[Step]:
    place, label = row.place(out, seed), f"seed {seed}, {row.name}"
    shared: dict[str, Any] = {"tokenizer": tokenizer, "encoder.ffn": row.ffn, "run.seed": seed}
    steps = []
    if row.pretrained:
        title = f"{label}: masked pretraining"
        length = {} if pretrain_steps is None else {"steps": pretrain_steps}
        steps.append(
            run_step(title, pretrain, "demo/pretrain", place / "pretrain", visual_tokenizer=codes, **length, **shared)
        )
    shared["init"] = place / "pretrain" if row.pretrained else "null"
    if not row.trained:
        shared["steps"] = 0
    for function, run, task in ((retrieval, RETRIEVAL, TASKS[0]), (vqa, VQA, TASKS[1])):
        work = "fine-tuning" if row.trained else "no fine-tuning"
        steps.append(run_step(f"{label}: {work}, {task.split('_')[0]}", function, f"demo/{run}", place / run, **shared))
        steps.append(score_step(f"{label}: scores, {task.split('_')[0]}", place / run, task, place / "eval", seed))
    return steps
