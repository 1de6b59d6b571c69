from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from mm_mhmoe_data.tokenizer import TOKENIZER_FILE, Tokenizer
from mm_mhmoe_eval.harness import PREFIX, evaluate_lm_eval
from mm_mhmoe_eval.libraries import LIBRARIES, load_library_model, pair_flops
from mm_mhmoe_eval.metric_names import is_share, shown
from mm_mhmoe_eval.results import ResultRecord, sha256_file
from mm_mhmoe_eval.runner import Evaluation, ModelFacts, evaluate, write_evaluation
from mm_mhmoe_eval.tasks import list_tasks, load_task
from rich.console import Console
from rich.table import Table
from torch import nn

from mm_mhmoe.analysis.cost import active_share, token_flops
from mm_mhmoe.commands.picture_target import load_tokenizer
from mm_mhmoe.models.checkpoints import WEIGHTS, load, read_config, resolve
from mm_mhmoe.models.tasks import ClassificationModel, PretrainModel, TaskModel
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
    workers: int | None = None,
    include_path: Path | None = None,
    num_fewshot: int | None = None,
) -> None:
    """Scores a model and writes one JSON record a task, and what the task's kind writes besides (for VQA the results
    file that the VQA server takes).

    `mm-mhmoe eval ls` lists tasks, `mm-mhmoe eval compare` puts records side by side.

    Args:
        model: local-dir:PATH, a plain path, hf-hub:OWNER/NAME, timm:ARCHITECTURE, or open_clip:ARCHITECTURE/WEIGHTS,
            where WEIGHTS is a tag of open_clip's (downloaded once) or a file; with /random at the end, they are random.
        tasks: names or .yaml files of tasks, separated by commas, e.g. retrieval_openclipart; a retrieval task needs
            a retrieval model, a vqa task a VQA model, a masked task a pretrained one that was not fine-tuned.
            lm_eval:TASK is a task of EleutherAI's lm-eval (pip install 'mm-mhmoe[lm-eval]'), for a language model.
        output_path: directory for the records.
        data_dir: directory that the paths in the task's YAML start from; without it, the shipped demo data.
        batch_size: pairs at a time.
        limit: only the first so many pairs or questions, for a quick look.
        visual_tokenizer: directory of the visual tokenizer whose codes a masked task's model predicts; without it, the
            one that the model's config.json names.
        log_samples: also write what the model said for each sample.
        seed: of the run that made the model, for the record; without it, the one in the model's config.json.
        workers: processes that read and decode ahead; without it, one beside a GPU, and none on a CPU, whose cores the
            model needs.
        include_path: folder of lm-eval tasks of your own, a YAML file each.
        num_fewshot: examples before each question of lm-eval's tasks; without it, as many as the task says.
    """
    names = tasks.split(",") if isinstance(tasks, str) else tasks
    todo = [load_task(name) for name in names if not name.startswith(PREFIX)]
    of_lm_eval = [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]
    if not names:
        raise ValueError(f"tasks is empty; known are {', '.join(list_tasks())}")
    masked = any(task.kind == "masked" for task in todo)
    judged = library_model(model) if model.startswith(LIBRARIES) else own_model(model, visual_tokenizer, masked=masked)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    judged.model.to(device)
    console = Console()
    made_with = judged.seed if seed is None else seed
    for task in todo:
        evaluation = evaluate(
            judged.model,
            task,
            facts=judged.facts,
            tokenizer=judged.tokenizer,
            data_dir=data_dir,
            batch_size=batch_size,
            limit=limit,
            device=device,
            seed=made_with,
            workers=int(device.type == "cuda") if workers is None else workers,
        )
        _keep(evaluation, output_path, console, log_samples=log_samples)
    if of_lm_eval:
        found = evaluate_lm_eval(
            judged.model,
            of_lm_eval,
            facts=judged.facts,
            tokenizer=judged.tokenizer,
            include_path=include_path,
            num_fewshot=num_fewshot,
            batch_size=batch_size,
            limit=limit,
            device=device,
            seed=made_with,
        )
        for evaluation in found:
            _keep(evaluation, output_path, console, log_samples=log_samples)


def _keep(evaluation: Evaluation, output_path: Path, console: Console, *, log_samples: bool) -> None:
    path = write_evaluation(evaluation, output_path, log_samples=log_samples)
    print_record(evaluation.record, console)
    console.print(f"record: {path}", highlight=False, style="dim")


def print_record(record: ResultRecord, console: Console) -> None:
    """What the task shows first, with intervals where there are some."""
    console.print(
        f"[bold]{record.task}[/]: {record.samples:,} samples, {record.samples_per_second:,.0f} a second"
        f"{'; the weights are random' if record.model.endswith('/random') else ''}",
        highlight=False,
    )
    table = Table(show_header=False, box=None)
    for name in record.headline:
        low, high = record.intervals.get(name, (None, None))
        interval = "" if low is None or high is None else f"{shown(name, low)} to {shown(name, high)}"
        unit = " %" if is_share(name) else ""
        table.add_row(name, f"{shown(name, record.metrics[name])}{unit}", f"[dim]{interval}[/]")
    console.print(table)


class Judged(NamedTuple):
    """A model to score, what its records say of it, its tokenizer, and the seed of its run.

    tokenizer: None: the model brings one, or reads pictures alone.
    """

    model: nn.Module
    facts: ModelFacts
    tokenizer: Tokenizer | None
    seed: int


def library_model(name: str) -> Judged:
    """A model of another library. Raises ValueError where there is none, or its weights cannot be had."""
    made = load_library_model(name)
    facts = ModelFacts(
        name=made.name, config={"model": made.name, "weights": made.weights}, flops_per_sample=pair_flops(made.model)
    )
    return Judged(made.model, facts, None, 0)


def own_model(source: str, visual_tokenizer: Path | None = None, *, masked: bool = False) -> Judged:
    """A model directory. `masked`: together with the visual tokenizer whose codes it predicts."""
    directory = resolve(source)
    model = load(directory)
    if not isinstance(model, TaskModel):
        raise ValueError(f"{source} is a visual tokenizer; tasks score models with an encoder")
    config = read_config(directory)
    codes = _codes_directory(visual_tokenizer, config) if masked else None
    facts = model_facts(model, name=str(source), directory=directory, config=config, codes=codes)
    judged = HiddenPredictor(model, load_tokenizer(codes)) if codes and isinstance(model, PretrainModel) else model
    made_with = config["run"].get("arguments", {}).get("run", {}).get("seed", 0)
    reads_pictures_alone = isinstance(model, ClassificationModel) and not (directory / TOKENIZER_FILE).is_file()
    return Judged(judged, facts, None if reads_pictures_alone else Tokenizer.load(directory), made_with)


def _codes_directory(given: Path | None, config: dict[str, Any]) -> Path:
    named = given or config["run"].get("arguments", {}).get("visual_tokenizer")
    if named is None or not (Path(named) / WEIGHTS).is_file():
        raise ValueError(
            f"a masked task needs the visual tokenizer whose codes the model predicts, and {named} is none; name it by "
            "--visual_tokenizer DIR"
        )
    return Path(named)


def model_facts(
    model: TaskModel, *, name: str, directory: Path, config: dict[str, Any], codes: Path | None = None
) -> ModelFacts:
    """Name, configuration, cost and tokenizers of a model, for its records."""
    encoder = model.config
    length = (encoder.vision.num_patches + 1 if encoder.pictures else 0) + encoder.text.max_length
    total = sum(p.numel() for p in model.parameters())
    tokenizers = {TOKENIZER_FILE: directory / TOKENIZER_FILE}
    tokenizers |= {f"visual_tokenizer/{WEIGHTS}": codes / WEIGHTS} if codes else {}
    return ModelFacts(
        name=name,
        directory=str(directory),
        config=config["encoder"] | ({"search": config["search"]} if "search" in config else {}),
        parameters_total=total,
        parameters_active=total - round((1 - active_share(encoder)) * expert_parameters(model)),
        flops_per_sample=float(length * token_flops(encoder, length).total),
        checksums={name: sha256_file(path) for name, path in tokenizers.items() if path.is_file()},
    )


def expert_parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for m in model.modules() if isinstance(m, Experts) for p in m.parameters())
