from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mm_mhmoe_data.tokenizer import Tokenizer
from mm_mhmoe_eval.runner import ModelFacts, evaluate, write_evaluation
from mm_mhmoe_eval.tasks import list_tasks, load_task
from rich.console import Console
from rich.table import Table

from mm_mhmoe.analysis.cost import active_share, token_flops
from mm_mhmoe.models.checkpoints import load, read_config, resolve
from mm_mhmoe.models.tasks import TaskModel
from mm_mhmoe.nn import Experts


def evaluate_model(
    model: str,
    tasks: list[str] | str,
    output_path: Path,
    data_dir: Path | None = None,
    batch_size: int = 64,
    limit: int | None = None,
    log_samples: bool = False,
    seed: int | None = None,
) -> None:
    """Scores a model and writes one JSON record a task (and for VQA the results file that the VQA server takes).

    Args:
        model: local-dir:PATH, a plain path, or hf-hub:OWNER/NAME.
        tasks: names or .yaml files of tasks, separated by commas, e.g. retrieval_openclipart; a retrieval task needs
            a retrieval model, a vqa task a VQA model.
        output_path: directory for the records.
        data_dir: directory that the paths in the task's YAML start from; without it, the shipped demo data.
        batch_size: pairs at a time.
        limit: only the first so many pairs or questions, for a quick look.
        log_samples: also write what the model said for each sample.
        seed: of the run that made the model, for the record; without it, the one in the model's config.json.
    """
    names = tasks.split(",") if isinstance(tasks, str) else tasks
    todo = [load_task(name) for name in names]
    if not todo:
        raise ValueError(f"tasks is empty; known are {', '.join(list_tasks())}")
    directory = resolve(model)
    scored = load(directory)
    if not isinstance(scored, TaskModel):
        raise ValueError(f"{model} is a visual tokenizer; tasks score retrieval and VQA models")
    config = read_config(directory)
    made_with = config["run"].get("arguments", {}).get("run", {}).get("seed", 0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    console = Console()
    for task in todo:
        evaluation = evaluate(
            scored.to(device),  # type: ignore[arg-type]
            task,
            tokenizer=Tokenizer.load(directory),
            facts=model_facts(scored, name=str(model), directory=directory, config=config),
            data_dir=data_dir,
            batch_size=batch_size,
            limit=limit,
            device=device,
            seed=made_with if seed is None else seed,
        )
        path = write_evaluation(evaluation, output_path, log_samples=log_samples)
        console.print(f"[bold]{task.name}[/]: {evaluation.record.samples:,} samples", highlight=False)
        table = Table(show_header=False, box=None)
        for name in task.metrics:
            if name in evaluation.record.metrics:
                table.add_row(name, f"{100 * evaluation.record.metrics[name]:.1f} %")
        console.print(table)
        console.print(f"record: {path}", highlight=False, style="dim")


def model_facts(model: TaskModel, *, name: str, directory: Path, config: dict[str, Any]) -> ModelFacts:
    """Name, configuration and cost of a model, for its records."""
    encoder = model.config
    length = encoder.vision.num_patches + 1 + encoder.text.max_length
    total = sum(p.numel() for p in model.parameters())
    return ModelFacts(
        name=name,
        directory=str(directory),
        config=config["encoder"],
        parameters_total=total,
        parameters_active=total - round((1 - active_share(encoder)) * expert_parameters(model)),
        flops_per_sample=float(length * token_flops(encoder, length).total),
    )


def expert_parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for m in model.modules() if isinstance(m, Experts) for p in m.parameters())
