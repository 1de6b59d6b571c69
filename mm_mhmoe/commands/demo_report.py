"""The demo's report, from the files that its steps left: it can be made again at any time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.tokenizer import Tokenizer
from mm_mhmoe_data.vqa_data import read_vqa
from mm_mhmoe_eval.report import write_report
from mm_mhmoe_eval.report_data import CurveChart, Method, ReportData, RunFacts, save_report_data
from mm_mhmoe_eval.results import ResultRecord, environment, now, read_record
from mm_mhmoe_eval.rows import chance_row, question_only_row, score_row
from mm_mhmoe_eval.terminal import print_scores
from rich.console import Console

from mm_mhmoe.analysis.cost import token_flops
from mm_mhmoe.commands.demo_plan import RETRIEVAL, TASKS, VQA, Variant
from mm_mhmoe.commands.evaluate import expert_parameters
from mm_mhmoe.commands.expert_views import expert_maps, expert_use
from mm_mhmoe.commands.run_logs import curve
from mm_mhmoe.commands.showcase import gallery, masked, questions
from mm_mhmoe.commands.sources import data_path
from mm_mhmoe.models.checkpoints import load, read_config
from mm_mhmoe.models.tasks import PretrainModel, RetrievalModel, VQAModel
from mm_mhmoe.models.visual_tokenizer import VisualTokenizer


def write_demo_report(out: Path, seeds: list[int], rows: list[Variant], *, record: Path | None) -> Path:
    """Writes out/report.html and out/report.json, prints the scores, and copies both with all records to `record`."""
    data = collect(out, seeds, rows)
    save_report_data(data, out / "report.json")
    write_report(data, out / "report.html")
    print_scores(data, Console())
    if record is not None:
        for seed in seeds:
            for row in rows:
                target = record / f"seed_{seed}" / row.role
                target.mkdir(parents=True, exist_ok=True)
                for task in TASKS:
                    shutil.copyfile(row.place(out, seed) / "eval" / f"{task}.json", target / f"{task}.json")
        for name in ("report.html", "report.json"):
            shutil.copyfile(out / name, record / name)
    return out / "report.html"


def collect(out: Path, seeds: list[int], rows: list[Variant]) -> ReportData:
    """Everything the report shows. Galleries come from the first seed's main model."""
    main = next(row for row in rows if row.role == "main")
    home = main.place(out, seeds[0])
    test = ShardDataset(data_path("demo:test"))
    examples = list(read_vqa(data_path("demo:vqa/test_questions.json"), data_path("demo:vqa/test_annotations.json")))
    tokenizer = Tokenizer.load(out / "tokenizer")
    encoder, finder, answerer = load(home / "pretrain"), load(home / RETRIEVAL), load(home / VQA)
    codes = load(out / "visual_tokenizer")
    assert isinstance(encoder, PretrainModel) and isinstance(finder, RetrievalModel)
    assert isinstance(answerer, VQAModel) and isinstance(codes, VisualTokenizer)

    records = {row: _records(out, seeds, row) for row in rows}
    retrieval_record, vqa_record = records[main][0], records[main][1]
    return ReportData(
        facts=_facts(out, seeds, rows, encoder),
        scores=[
            *(score_row(row.name, row.role, records[row], note=row.note) for row in rows),
            question_only_row(vqa_record),
            chance_row(retrieval_record),
        ],
        test_pairs=len(test),
        captions=len(test),
        questions=len(examples),
        curves=_charts(out, seeds[0], rows),
        gallery=gallery(finder, test, tokenizer),
        vqa=questions(answerer, test, examples, tokenizer),
        masked=masked(encoder, codes, test, tokenizer),
        experts=expert_use(encoder, test, tokenizer),
        expert_maps=expert_maps(encoder, test, tokenizer),
        method=_method(seeds, rows),
    )


def _records(out: Path, seeds: list[int], row: Variant) -> list[ResultRecord]:
    return [read_record(row.place(out, seed) / "eval" / f"{task}.json") for seed in seeds for task in TASKS]


def _facts(out: Path, seeds: list[int], rows: list[Variant], encoder: PretrainModel) -> RunFacts:
    runs = [out / "visual_tokenizer"]
    for seed in seeds:
        for row in rows:
            runs += [row.place(out, seed) / name for name in row.runs()]
    made = [read_config(run)["run"] for run in runs]
    main = next(row for row in rows if row.role == "main").place(out, seeds[0])
    pretrained, found = read_config(main / "pretrain")["run"], read_config(main / RETRIEVAL)["run"]
    arguments: dict[str, Any] = pretrained["arguments"]
    batch = sum(arguments[name] for name in ("batch_images", "batch_texts", "batch_pairs"))
    config = encoder.config
    total = sum(p.numel() for p in encoder.encoder.parameters())
    flops = token_flops(config, config.vision.num_patches + 1 + config.text.max_length)
    machine = environment()
    return RunFacts(
        wall_seconds=sum(run["wall_seconds"] for run in made),
        parameters_total=total,
        parameters_active=None,
        flops_per_token=float(flops.total),
        pretrain_steps=arguments["steps"],
        finetune_steps=found["arguments"]["steps"],
        pretrain_samples=arguments["steps"] * batch,
        seeds=seeds,
        git_hash=pretrained["git"],
        machine=f"{machine['cpu']}, {machine['cpus']} cores, torch {machine['torch']}",
        date=now(),
        extra={
            "Encoder": f"{config.depth} blocks, {config.dim} wide, MH-MoE in every {_ordinal(config.moe.every)}: "
            f"{config.moe.num_experts} experts, {config.moe.heads} heads, top-{config.moe.top_k}",
            "Expert parameters": f"{expert_parameters(encoder):,}",
        },
    )


def _ordinal(n: int) -> str:
    return {1: "block", 2: "second block", 3: "third block"}.get(n, f"{n}th block")


def _charts(out: Path, seed: int, rows: list[Variant]) -> list[CurveChart]:
    charts = []

    def add(title: str, reading: str, lines: list[Any], **options: Any) -> None:
        present = [line for line in lines if line is not None]
        if present:
            charts.append(CurveChart(title=title, reading=reading, curves=present, **options))

    codes = out / "visual_tokenizer"
    add(
        "Visual tokenizer: distance to the patch",
        "1 minus the cosine between a patch and what its code stands for; lower is better.",
        [curve(codes, "train/distance", "distance")],
        y_label="1 - cosine",
    )
    add(
        "Visual tokenizer: perplexity of the codes",
        "As many codes, evenly used, would say as much as those of a batch; low means a collapsed codebook. The low "
        "start is that of the random codebook, which k-means replaces when the vectors have spread.",
        [curve(codes, "train/code_perplexity", "perplexity")],
        y_label="codes",
    )
    pretrained = [row for row in rows if row.pretrained]
    for metric, title in (
        ("images", "Masked patches, pictures alone"),
        ("texts", "Masked words, texts alone"),
        ("pairs_image", "Masked patches, pairs"),
        ("pairs_text", "Masked words, pairs"),
    ):
        add(
            f"Pretraining: {title}",
            "Cross-entropy in nats at the hidden positions of a training step; lower is better.",
            [curve(row.place(out, seed) / "pretrain", f"train/{metric}", row.name, row.role) for row in pretrained],
            y_label="nats",
        )
    trained = [row for row in rows if row.trained]
    for run, metric, title, reading in (
        (RETRIEVAL, "contrastive", "Retrieval", "InfoNCE within a training batch; lower is better."),
        (VQA, "answer", "Questions", "Binary cross-entropy summed over the answers; lower is better."),
    ):
        add(
            f"Fine-tuning: {title}",
            reading,
            [curve(row.place(out, seed) / run, f"train/{metric}", row.name, row.role) for row in trained],
            y_label="nats",
        )
    return charts


def _method(seeds: list[int], rows: list[Variant]) -> Method:
    manifest = json.loads((Path(data_path("demo:train")).parent / "manifest.json").read_text(encoding="utf-8"))
    every = any(row.role == "dense" for row in rows)
    command = "make results" if every and len(seeds) > 1 else "make demo"
    return Method(
        commands=[command],
        data_card={
            "Source": "Open Clip Art Library, from the Debian packages openclipart-png and openclipart-svg",
            "Licence": str(manifest["licence"]),
            "Pairs": ", ".join(f"{name} {split['pictures']:,}" for name, split in manifest["splits"].items()),
        },
        caveats=[
            "This is a toy scale: minutes of training on a few thousand pictures. It shows that the path works, not "
            "what the method reaches.",
            "Test pictures share no near-duplicate, caption or series with training pictures.",
            "Settings were chosen on the validation split; the test split was scored only for reports.",
            "The visual tokenizer is trained once and shared by all seeds and rows.",
        ],
    )
