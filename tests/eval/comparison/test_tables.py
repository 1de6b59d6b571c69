"""On the records that come with the project, and on made-up ones for what has to be refused."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from mm_mhmoe_eval.comparison import compare, read_systems, to_csv, to_latex, to_markdown
from mm_mhmoe_eval.results import ResultRecord, read_record, write_record

DEMO = Path(__file__).parents[3] / "eval" / "results" / "demo"
METRICS = ["image_retrieval_recall@10", "vqa"]


def record(**changes: Any) -> ResultRecord:
    values: dict[str, Any] = {
        "task": "t",
        "task_version": 1,
        "model": "a",
        "metrics": {"vqa": 0.5},
        "samples": 4,
        "seed": 0,
        "checksums": {"test/0.tar": "aa", "tokenizer.model": "bb"},
        "per_sample": {"vqa": [1.0, 1.0, 0.0, 0.0]},
    }
    return ResultRecord(**{**values, **changes})


def written(tmp_path: Path, *records: ResultRecord) -> list[str]:
    for number, one in enumerate(records):
        write_record(one, tmp_path / f"{number}.json")
    return [f"row {number}={tmp_path}/{number}.json" for number in range(len(records))]


def test_seeds_of_the_demo_are_one_row() -> None:
    systems = read_systems([f"main={DEMO}/seed_*/main", f"none={DEMO}/seed_*/no_pretraining"])
    tables = {table.task: table for table in compare(systems, METRICS)}
    assert list(tables) == ["retrieval_openclipart", "vqa_openclipart"]
    vqa = tables["vqa_openclipart"]
    assert [row.name for row in vqa.rows] == ["main", "none", "question only"]
    main, none = (row.cells["vqa"] for row in vqa.rows[:2])
    scores = [
        [read_record(DEMO / f"seed_{seed}" / name / "vqa_openclipart.json").metrics["vqa"] for seed in range(3)]
        for name in ("main", "no_pretraining")
    ]
    assert main.value == pytest.approx(sum(scores[0]) / 3) and main.seeds == 3 and main.deviation is not None
    assert none.difference is not None and main.difference is None
    assert none.difference.value == pytest.approx((sum(scores[1]) - sum(scores[0])) / 3)
    assert none.difference.outcome == "worse" and none.difference.p is not None and none.difference.p < 0.01
    chance = tables["retrieval_openclipart"].rows[-1]
    assert chance.name == "chance" and chance.cells[METRICS[0]].value == pytest.approx(10 / 511)
    assert not chance.is_model


def test_more_tests_make_a_difference_less_certain() -> None:
    places = [f"main={DEMO}/seed_*/main", f"dense={DEMO}/seed_*/dense", f"none={DEMO}/seed_*/no_pretraining"]
    alone = compare(read_systems(places[:2]), METRICS[:1])[0].rows[1].cells[METRICS[0]].difference
    among = compare(read_systems(places))[0].rows[1].cells[METRICS[0]].difference
    assert alone is not None and among is not None and alone.p is not None and among.p is not None
    assert alone.p < among.p


def test_the_demos_perplexity_is_better_when_lower(tmp_path: Path) -> None:
    nats = [[3.0, 2.0, 2.5, 1.5] * 20, [2.0, 1.0, 1.5, 0.5] * 20]
    places = written(
        tmp_path,
        *(
            record(metrics={"perplexity": value}, per_sample={"nats": per_sample}, samples=80)
            for value, per_sample in zip((9.5, 3.5), nats, strict=True)
        ),
    )
    cell = compare(read_systems(places))[0].rows[1].cells["perplexity"]
    assert cell.difference is not None
    assert cell.difference.outcome == "better" and cell.difference.value == -6.0 and cell.difference.low is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"task_version": 2}, "versions 1 and 2 of the task"),
        ({"samples": 3}, "4 samples and 3 samples"),
        ({"config": {"limit": 4}}, r"4 samples and 4 samples \(limit=4\)"),
        ({"checksums": {"test/0.tar": "cc"}}, "other data .test/0.tar differs"),
        ({"checksums": {"test/1.tar": "aa"}}, "other data .test/0.tar is in one only"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    places = written(tmp_path, record(), record(model="b", **change))
    with pytest.raises(ValueError, match=f"t: row 0 and row 1 were scored on {told}"):
        compare(read_systems(places))


def test_perplexities_under_another_tokenizer_are_refused(tmp_path: Path) -> None:
    other = {"test/0.tar": "aa", "tokenizer.model": "dd"}
    compare(read_systems(written(tmp_path, record(), record(checksums=other))))
    perplexities = [record(metrics={"perplexity": 3.0}), record(metrics={"perplexity": 3.0}, checksums=other)]
    with pytest.raises(ValueError, match=r"tokenizer.model differs"):
        compare(read_systems(written(tmp_path, *perplexities)))


def test_places_without_records(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(ValueError, match="holds no records"):
        read_systems([str(tmp_path)])
    with pytest.raises(ValueError, match="does not exist"):
        read_systems([str(tmp_path / "nothing.json")])


def test_a_seed_given_twice_is_refused(tmp_path: Path) -> None:
    written(tmp_path, record(), record(model="b"))
    with pytest.raises(ValueError, match="seed 0 of t 2 times"):
        read_systems([str(tmp_path)])


def test_rows_are_named_by_model_or_place(tmp_path: Path) -> None:
    places = [place.split("=")[1] for place in written(tmp_path, record(), record(), record(model="local-dir:runs/b"))]
    assert [system.name for system in read_systems(places)] == [*places[:2], "runs/b"]


def test_results_of_clip_benchmark(tmp_path: Path) -> None:
    """The example of its README, and one of a retrieval set."""
    example = {
        "dataset": "wds/cifar10",
        "model": "ViT-B-32-quickgelu",
        "pretrained": "laion400m_e32",
        "task": "zeroshot_classification",
        "metrics": {"acc1": 0.9074, "acc5": 0.998},
    }
    (tmp_path / "a.json").write_text(json.dumps(example))
    (tmp_path / "b.json").write_text(json.dumps({**example, "metrics": {"acc1": 0.8, "acc5": None}, "model": "RN50"}))
    (table,) = compare(read_systems([f"{tmp_path}/a.json", f"{tmp_path}/b.json"]))
    assert table.task == "cifar10" and table.metrics == ("acc1", "acc5")
    assert [row.name for row in table.rows] == ["ViT-B-32-quickgelu/laion400m_e32", "RN50/laion400m_e32"]
    difference = table.rows[1].cells["acc1"].difference
    assert difference is not None and difference.value == pytest.approx(-0.1074) and difference.p is None
    assert "acc5" not in table.rows[1].cells
    assert "| RN50/laion400m_e32 | 80.0<br>−10.7 | – |" in to_markdown([table])


def test_written_tables_hold_the_numbers() -> None:
    tables = compare(read_systems([f"main={DEMO}/seed_*/main", f"a|b_c&d={DEMO}/seed_*/dense"]), METRICS)
    value = tables[0].rows[0].cells[METRICS[0]].value
    lines = list(csv.DictReader(io.StringIO(to_csv(tables))))
    assert float(lines[0]["value"]) == value and lines[0]["difference"] == ""
    assert {line["model"] for line in lines} == {"main", "a|b_c&d", "chance", "question only"}
    assert all(line["parameters_total"] for line in lines if line["model"] == "main")
    markdown, latex = to_markdown(tables), to_latex(tables)
    for text in (markdown, latex):
        assert f"{100 * value:.1f}" in text and "Holm" in text
    assert r"a\|b_c&d" in markdown and r"a|b\_c\&d" in latex
    assert latex.count("\\begin{tabular}") == latex.count("\\end{tabular}") == 3


def test_records_without_new_fields_are_read(tmp_path: Path) -> None:
    values = asdict(replace(record(), headline=["vqa"]))
    del values["headline"], values["samples_per_second"]
    (tmp_path / "old.json").write_text(json.dumps(values))
    assert read_record(tmp_path / "old.json").headline == []


def test_the_command(call, tmp_path: Path) -> None:
    words = [f"{DEMO}/seed_0/main", f"{DEMO}/seed_0/dense", "--metrics", "vqa", "--csv", tmp_path / "t.csv"]
    code, out, _ = call("eval", "compare", *words)
    assert code == 0 and "p=" in out and (tmp_path / "t.csv").read_text().count("\n") == 4
    code, _, err = call("eval", "compare", f"{DEMO}/seed_0/main", "--metrics", "cider")
    assert code == 1 and "none of the records has cider" in err
