"""Scores of tasks while a model is being fine-tuned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from mm_mhmoe_data.tokenizer import TOKENIZER_FILE, Tokenizer
from mm_mhmoe_eval.results import sha256_file
from mm_mhmoe_eval.runner import ModelFacts, evaluate, write_evaluation
from mm_mhmoe_eval.tasks import Task, load_task

from mm_mhmoe.models.tasks import TaskModel
from mm_mhmoe.training.trainer import RunConfig

SCORES = "eval"


def scoring(model: TaskModel, tokenizer: Tokenizer | None, out: Path, run: RunConfig) -> list[L.Callback]:
    """The callback of `run.eval_tasks`; nothing where there are none. Raises ValueError for an unknown task."""
    tasks = [load_task(name) for names in run.eval_tasks for name in names.split(",")]
    return [Scoring(model, tokenizer, tasks, out, run)] if tasks else []


class Scoring(L.Callback):
    """Scores the model every so many steps and after the last one: as `mm-mhmoe eval` would, in full precision.

    Writes a record to out/eval/step_XXXXXXXX/ and eval/TASK/METRIC to the logs. Training goes on as if nothing had been
    scored: what a step draws is seeded anew. Of several processes the first scores, and the others wait. Averaged
    weights (optim.ema_decay) are not looked at before the end of the run: the scores are those of the weights of the
    step.
    """

    def __init__(
        self, model: TaskModel, tokenizer: Tokenizer | None, tasks: Sequence[Task], out: Path, run: RunConfig
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.tasks = tasks
        self.out = out
        self.run = run
        self.step = 0

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        self.step = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        step = trainer.global_step
        if step == self.step or (step % self.run.eval_every and step != trainer.max_steps):
            return  # gradients are being accumulated, or it is not yet time
        if trainer.is_global_zero:
            for task in self.tasks:
                self._score(trainer, task, step)
        trainer.strategy.barrier("eval")

    def _score(self, trainer: L.Trainer, task: Task, step: int) -> None:
        facts = ModelFacts(
            name=f"{self.out} at step {step}",
            config=self.model.config.to_dict() | {"step": step},
            checksums={TOKENIZER_FILE: sha256_file(self.tokenizer.path)} if self.tokenizer else {},
        )
        evaluation = evaluate(
            self.model,
            task,
            facts=facts,
            tokenizer=self.tokenizer,
            data_dir=self.run.eval_data_dir,
            device=next(self.model.parameters()).device,
            seed=self.run.seed,
            workers=self.run.workers,
        )
        write_evaluation(evaluation, self.out / SCORES / f"step_{step:08d}")
        scores = {f"eval/{task.name}/{name}": evaluation.record.metrics[name] for name in evaluation.record.headline}
        for logger in trainer.loggers:
            logger.log_metrics(scores, step=step)
