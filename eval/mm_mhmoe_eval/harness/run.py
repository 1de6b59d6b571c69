"""Runs lm-eval on a language model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mm_mhmoe.models.tasks import LanguageModel
from mm_mhmoe_eval.harness.records import PREFIX, evaluations
from mm_mhmoe_eval.runner import Evaluation, ModelFacts


def evaluate_lm_eval(
    model: object,
    tasks: Sequence[str],
    *,
    facts: ModelFacts,
    tokenizer: Any,
    include_path: Path | None = None,
    num_fewshot: int | None = None,
    batch_size: int = 64,
    limit: int | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> list[Evaluation]:
    """Scores a language model on tasks of lm-eval, in eval mode.

    Args:
        tasks: names of tasks or of groups, as lm-eval has them.
        facts: what the records say about the model.
        tokenizer: of the model.
        include_path: folder of further tasks, a YAML file each.
        num_fewshot: examples before each question; None: as many as the task says. A task that says 0 keeps 0.
        batch_size: rows at a time.
        limit: only the first so many documents of each task.
        device: where batches go; the model must be there already.
        seed: of the run that made the model, for the records.

    Raises:
        ValueError: lm-eval is not installed, the model is no language model, or a task is unknown or cannot be loaded.
    """
    if not isinstance(model, LanguageModel):
        raise ValueError(
            f"{type(model).__name__} does not predict the next token; tasks of lm-eval need a language model"
        )
    try:
        from lm_eval import simple_evaluate
        from lm_eval.tasks import TaskManager

        from mm_mhmoe_eval.harness.adapter import HarnessModel
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{PREFIX}{tasks[0]} needs {error.name}, which is not installed: pip install 'mm-mhmoe[lm-eval]'"
        ) from error
    if include_path is not None and not include_path.is_dir():
        raise ValueError(f"include_path={include_path} is no folder; name the one that holds your tasks' YAML files")
    adapter = HarnessModel(model, tokenizer, batch_size=batch_size, device=device)
    started = time.perf_counter()
    try:
        manager = TaskManager(include_path=None if include_path is None else str(include_path))
        unknown = [name for name in tasks if name not in manager.all_tasks]
        if unknown:
            raise ValueError(
                f"lm-eval has no task {', '.join(unknown)}; `lm-eval ls tasks` lists its own, and include_path names a "
                "folder of others"
            )
        with torch.no_grad():
            results = simple_evaluate(
                model=adapter,
                tasks=list(tasks),
                num_fewshot=num_fewshot,
                limit=limit,
                bootstrap_iters=0,  # intervals are made here, in the same way for all records
                task_manager=manager,
            )
    except (ValueError, OSError):
        raise
    except Exception as error:  # a task is others' code: YAML, templates and Python that may raise anything
        raise ValueError(
            f"lm-eval could not score {', '.join(tasks)}: {type(error).__name__}: {error}; check the tasks' YAML "
            "files. MM_MHMOE_DEBUG=1 shows where it happened"
        ) from error
    return evaluations(
        results,
        facts=facts,
        seed=seed,
        config={"batch_size": batch_size, "limit": limit},
        lm_eval_version=version("lm_eval"),
        seconds=time.perf_counter() - started,
    )
