"""Tasks are scored while a model is fine-tuned, which does not change what comes out."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from mm_mhmoe_eval.results import read_record

from mm_mhmoe.commands.sources import config_path
from mm_mhmoe.models.checkpoints import read_weights


def words_of(options: dict[str, Any]) -> list[str]:
    config = config_path("demo/finetune_retrieval.yaml")
    return ["finetune", "retrieval", f"--config={config}", *(f"--{name}={value}" for name, value in options.items())]


def test_scores_on_the_way(call, small_demo, parts, shipped: Path, tmp_path: Path) -> None:
    task = tmp_path / "found.yaml"
    task.write_text(
        "name: found\nversion: 1\nkind: retrieval\ndescription: d\ndata: {test: val}\n"
        "metrics: [image_retrieval_recall@10, text_retrieval_recall@10]\n"
    )
    options = small_demo("finetune_retrieval") | {"steps": 5, "init": "null", "shards": shipped / "train"}
    options |= {"tokenizer": parts["tokenizer"]}
    code, _, err = call(*words_of(options | {"out": tmp_path / "plain"}))
    assert code == 0, err
    scored = ["--eval_tasks", f"[{task}]", "--eval_every", 2, "--eval_data_dir", shipped]
    code, _, err = call(*words_of(options | {"out": tmp_path / "scored"}), *scored)
    assert code == 0, err

    ours, theirs = read_weights(tmp_path / "scored"), read_weights(tmp_path / "plain")
    assert all((ours[name] == theirs[name]).all() for name in theirs)

    records = sorted((tmp_path / "scored" / "eval").rglob("*.json"))
    assert [path.parent.name for path in records] == ["step_00000002", "step_00000004", "step_00000005"]
    words = ["--tasks", f"[{task}]", "--data_dir", shipped, "--output_path", tmp_path / "after"]
    code, _, err = call("eval", "--model", tmp_path / "scored", *words)
    assert code == 0, err
    assert read_record(records[-1]).metrics == read_record(tmp_path / "after" / "found.json").metrics
    assert read_record(records[0]).metrics != read_record(records[-1]).metrics

    (log,) = (tmp_path / "scored" / "logs" / "csv").rglob("metrics.csv")
    with log.open() as file:
        rows = [row for row in csv.DictReader(file) if row["eval/found/image_retrieval_recall@10"]]
    assert [row["step"] for row in rows] == ["2", "4", "5"]
    assert (
        float(rows[-1]["eval/found/text_retrieval_recall@10"])
        == read_record(records[-1]).metrics["text_retrieval_recall@10"]
    )


def test_half_of_it_is_refused(call, small_demo, parts, tmp_path: Path) -> None:
    options = small_demo("finetune_retrieval") | {
        "out": tmp_path / "run",
        "tokenizer": parts["tokenizer"],
        "init": "null",
    }
    code, _, err = call(*words_of(options), "--eval_every", 2)
    assert code in (1, 2) and "run.eval_tasks=none and run.eval_every=2 need each other" in err
    code, _, err = call(*words_of(options), "--eval_every", 2, "--eval_tasks", "[no_such_task]")
    assert code == 1 and "no_such_task" in err
