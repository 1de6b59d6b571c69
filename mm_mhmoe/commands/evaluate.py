from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mm_mhmoe_data.tokenizer import TOKENIZER_FILE, Tokenizer
from mm_mhmoe_eval.results import sha256_file
from mm_mhmoe_eval.runner import ModelFacts, evaluate, write_evaluation
from mm_mhmoe_eval.tasks import list_tasks, load_task
from rich.console import Console
from rich.table import Table

from mm_mhmoe.analysis.cost import active_share, token_flops
from mm_mhmoe.commands.picture_target import load_tokenizer
from mm_mhmoe.models.checkpoints import WEIGHTS, load, read_config, resolve
from mm_mhmoe.models.tasks import PretrainModel, TaskModel
from mm_mhmoe.nn import Experts
from mm_mhmoe.objectives.held_out import HiddenPredictor


def evaluate_model(
    model: str,
    tasks: list[str] | str,
    output_path: Path,
    data_dir: Path | None = None,
    batch_size: int = 64,
    limit: int | None = None,
    visual_tokenizer: Path | None = None,
    log_samples: bool = False,
    seed: int | None = None,
) -> None:
    """Scores a model and writes one JSON record a task (and for VQA the results file that the VQA server takes).

    Args:
        model: local-dir:PATH, a plain path, or hf-hub:OWNER/NAME.
        tasks: names or .yaml files of tasks, separated by commas, e.g. retrieval_openclipart; a retrieval task needs
            a retrieval model, a vqa task a VQA model, a masked task a pretrained one that was not fine-tuned.
        output_path: directory for the records.
        data_dir: directory that the paths in the task's YAML start from; without it, the shipped demo data.
        batch_size: pairs at a time.
        limit: only the first so many pairs or questions, for a quick look.
        visual_tokenizer: directory of the visual tokenizer whose codes a masked task's model predicts; without it, the
            one that the model's config.json names.
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
    codes = None
    if any(task.kind == "masked" for task in todo):
        codes = _codes_directory(visual_tokenizer, config)
    judged = HiddenPredictor(scored, load_tokenizer(codes)) if codes and isinstance(scored, PretrainModel) else scored
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    console = Console()
    for task in todo:
        evaluation = evaluate(
            judged.to(device),
            task,
            tokenizer=Tokenizer.load(directory),
            facts=model_facts(scored, name=str(model), directory=directory, config=config, codes=codes),
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
                table.add_row(name, _shown(name, evaluation.record.metrics[name]))
        console.print(table)
        console.print(f"record: {path}", highlight=False, style="dim")


def _codes_directory(given: Path | None, config: dict[str, Any]) -> Path:
    named = given or config["run"].get("arguments", {}).get("visual_tokenizer")
    if named is None or not (Path(named) / WEIGHTS).is_file():
        raise ValueError(
            f"a masked task needs the visual tokenizer whose codes the model predicts, and {named} is none; name it by "
            "--visual_tokenizer DIR"
        )
    return Path(named)


def _shown(name: str, value: float) -> str:
    if name.endswith("perplexity"):
        return f"{value:.2f}"
    return f"{100 * value:.1f} %" if value <= 1 else f"{value:,.0f}"


def model_facts(
    model: TaskModel, *, name: str, directory: Path, config: dict[str, Any], codes: Path | None = None
) -> ModelFacts:
    """Name, configuration, cost and tokenizers of a model, for its records."""
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
        checksums={TOKENIZER_FILE: sha256_file(directory / TOKENIZER_FILE)}
        | ({f"visual_tokenizer/{WEIGHTS}": sha256_file(codes / WEIGHTS)} if codes else {}),
    )


def expert_parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for m in model.modules() if isinstance(m, Experts) for p in m.parameters())
