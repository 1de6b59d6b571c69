"""Truth: lm-eval itself, on tasks over local files; this project's own tasks on the same texts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from mm_mhmoe_data.language import Document
from mm_mhmoe_data.shards import Sample, write_shards
from mm_mhmoe_data.tokenizer import TOKENIZER_FILE
from mm_mhmoe_eval.harness import evaluate_lm_eval
from mm_mhmoe_eval.kinds import KINDS, ScoredData
from mm_mhmoe_eval.kinds.language.questions import next_paragraph_questions
from mm_mhmoe_eval.runner import ModelFacts

from mm_mhmoe.cli import run
from mm_mhmoe.config import TextConfig, language_preset
from mm_mhmoe.models import save
from mm_mhmoe.models.tasks import LanguageModel

FACTS = ModelFacts(name="mine")
CHOICE = """
task: own_next_paragraph
dataset_path: json
dataset_kwargs: {{data_files: {{test: {questions}}}, cache_dir: {cache}}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{context}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
target_delimiter: ""
metric_list: [{{metric: acc}}, {{metric: acc_bytes}}]
metadata: {{version: 3.0}}
"""
ROLLING = """
task: own_perplexity
dataset_path: json
dataset_kwargs: {{data_files: {{test: {documents}}}, cache_dir: {cache}}}
output_type: loglikelihood_rolling
test_split: test
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list: [{{metric: bits_per_byte}}, {{metric: byte_perplexity}}]
"""
WRITING = """
task: own_writing
dataset_path: json
dataset_kwargs: {{data_files: {{test: {questions}}}, cache_dir: {cache}}}
output_type: generate_until
test_split: test
doc_to_text: "{{{{context}}}}"
doc_to_target: "{{{{choices[answer]}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 4}}
metric_list: [{{metric: exact_match}}]
"""
GROUP = """
group: own_group
task: [own_next_paragraph]
aggregate_metric_list: [{metric: acc}]
"""


@pytest.fixture
def documents() -> list[Document]:
    """Six documents of five lines, whose words tell them apart."""
    names = ("manager", "package", "version", "name", "user", "packages")
    return [
        Document(
            "en-US",
            f"d{number}",
            tuple(f"the {name} {line} asks the manager for a {names[line]} and a {name}" for line in range(5)),
            tuple({"language": "en-US", "id": f"d{number}"} for _ in range(5)),
        )
        for number, name in enumerate(names)
    ]


@pytest.fixture
def model() -> LanguageModel:
    torch.manual_seed(0)
    text = TextConfig(vocab_size=320, max_length=256)
    return LanguageModel(language_preset("tiny", dim=16, ffn_dim=32, depth=2, num_heads=2, text=text)).eval()


@pytest.fixture
def shards(tmp_path: Path, documents: list[Document]) -> Path:
    samples = [
        Sample(
            key=document.id,
            parts={"txt": "\n".join(document.paragraphs).encode(), "json": json.dumps(document.facts[0]).encode()},
        )
        for document in documents
    ]
    write_shards(samples, tmp_path / "shards", 0, len(samples))
    return tmp_path / "shards"


@pytest.fixture
def tasks(tmp_path: Path, documents: list[Document]) -> Path:
    """A folder of tasks: the questions of `next_paragraph`, and the documents."""
    questions = [
        {
            "key": question.key,
            "context": "".join(f"{text}\n" for text in question.context),
            "choices": [f"{text}\n" for text in question.choices],
            "answer": question.answer,
        }
        for question in next_paragraph_questions(documents, 800)
    ]
    texts = [{"text": "".join(f"{text}\n" for text in document.paragraphs)} for document in documents]
    places = {"questions": tmp_path / "questions.jsonl", "documents": tmp_path / "documents.jsonl"}
    for place, rows in zip(places.values(), (questions, texts), strict=True):
        place.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = tmp_path / "tasks"
    folder.mkdir()
    for name, template in {"choice": CHOICE, "rolling": ROLLING, "writing": WRITING}.items():
        (folder / f"{name}.yaml").write_text(template.format(**places, cache=tmp_path / "cache"))
    (folder / "group.yaml").write_text(GROUP)
    return folder


def test_what_is_needed_is_said(model, pieces, monkeypatch):
    with pytest.raises(ValueError, match=r"Linear does not predict the next token; tasks of lm-eval need a language"):
        evaluate_lm_eval(torch.nn.Linear(1, 1), ["hellaswag"], facts=FACTS, tokenizer=pieces)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(ValueError, match=r"lm_eval:hellaswag needs lm_eval, .*pip install 'mm-mhmoe\[lm-eval\]'"):
        evaluate_lm_eval(model, ["hellaswag"], facts=FACTS, tokenizer=pieces)


def test_lm_eval_finds_what_this_projects_tasks_find(model, pieces, shards, tasks, documents):
    """The nats of every choice, accuracies, and bits a byte of documents that fit into the model as a whole."""
    pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed")
    names = ["own_group", "own_perplexity"]
    found = {
        evaluation.record.task: evaluation
        for evaluation in evaluate_lm_eval(model, names, facts=FACTS, tokenizer=pieces, include_path=tasks)
    }
    assert sorted(found) == ["lm_eval:own_group", "lm_eval:own_next_paragraph", "lm_eval:own_perplexity"]
    data = ScoredData(
        paths={"test": shards}, tokenizer=pieces, batch_size=5, limit=None, device="cpu", options={"languages": ""}
    )

    own = KINDS["perplexity"].score(model, data)
    rolled = found["lm_eval:own_perplexity"].record
    assert max(metrics["tokens"] for metrics in own.samples) < 256
    assert rolled.metrics["bits_per_byte"] == pytest.approx(own.metrics["bits_per_byte"], rel=1e-6)
    assert rolled.per_sample["bits_per_byte"] == pytest.approx(own.per_sample["bits_per_byte"], abs=1e-4)

    asked = ScoredData(**{**vars(data), "options": KINDS["next_paragraph"].options})
    own = KINDS["next_paragraph"].score(model, asked)
    chosen = found["lm_eval:own_next_paragraph"]
    nats = {sample["key"]: sample["nats"] for sample in own.samples}
    for sample in chosen.samples:
        theirs = [-likelihood for ((likelihood, _),) in sample["resps"]]
        assert theirs == pytest.approx(nats[sample["doc"]["key"]], rel=1e-5)
    assert chosen.record.metrics["acc"] == own.metrics["accuracy"]
    per_byte = [  # lm-eval's choices have their line ends among their bytes
        sample["answer"] == min(range(4), key=lambda n: sample["nats"][n] / (len(sample["choices"][n].encode()) + 1))
        for sample in own.samples
    ]
    assert chosen.record.metrics["acc_bytes"] == sum(per_byte) / len(per_byte)
    assert chosen.record.task_version == 3 and chosen.record.samples == len(own.samples) == len(documents) * 4
    assert found["lm_eval:own_group"].record.metrics["acc"] == own.metrics["accuracy"]


def test_the_command_scores_tasks_of_both_sorts(model, pieces, shards, tasks, tmp_path):
    pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed")
    save(model, tmp_path / "model", files={TOKENIZER_FILE: pieces.path})
    (tmp_path / "own.yaml").write_text(
        "{name: own, version: 1, kind: perplexity, description: d, data: {test: shards}, metrics: [perplexity]}"
    )
    given = {
        "model": tmp_path / "model",
        "tasks": f"[{tmp_path / 'own.yaml'}, lm_eval:own_writing, lm_eval:own_next_paragraph]",
        "data_dir": tmp_path,
        "include_path": tasks,
        "output_path": tmp_path / "out",
        "limit": 3,
        "num_fewshot": 1,
    }
    run(["eval", *(f"--{name}={value}" for name, value in given.items())])
    names = ["lm_eval_own_next_paragraph.json", "lm_eval_own_writing.json", "own.json"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    written, chosen = (
        json.loads((tmp_path / "out" / f"lm_eval_own_{n}.json").read_text()) for n in ("writing", "next_paragraph")
    )
    assert written["samples"] == 3 and written["config"]["limit"] == 3
    assert chosen["config"]["options"]["num_fewshot"] == 1


def test_unknown_and_broken_tasks_are_refused_with_a_reason(model, pieces, tasks):
    pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed")

    def score(name: str, folder: Path = tasks) -> None:
        evaluate_lm_eval(model, [name], facts=FACTS, tokenizer=pieces, include_path=folder)

    with pytest.raises(ValueError, match=r"include_path=.*elsewhere is no folder"):
        score("own_writing", tasks / "elsewhere")
    with pytest.raises(ValueError, match="lm-eval has no task mine; "):
        score("mine")
    place = tasks / "writing.yaml"
    place.write_text(place.read_text().replace("max_gen_toks: 4", "num_beams: 4"))
    with pytest.raises(ValueError, match="generation_kwargs: num_beams of the task is not known here"):
        score("own_writing")
    place.write_text(place.read_text().replace("{{context}}", "{{nowhere.to.be.found}}"))
    with pytest.raises(ValueError, match=r"lm-eval could not score own_writing: .*check the tasks' YAML files"):
        score("own_writing")
