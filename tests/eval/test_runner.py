from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mm_mhmoe_data.shards import Shard
from mm_mhmoe_eval import runner
from mm_mhmoe_eval.kinds import answered, embedded, retrieval, vqa
from mm_mhmoe_eval.results import read_record
from mm_mhmoe_eval.rows import chance_row, question_only_row, question_type_counts, score_row
from mm_mhmoe_eval.tasks import Task

from mm_mhmoe.batch import Images, ImageTextBatch, Texts, VQABatch
from mm_mhmoe.config import TextConfig, VisionConfig

PAIRS = 12
ANSWERS = ("dog", "cat", "yes")
TASKS = {
    "retrieval": Task(name="r", version=1, kind="retrieval", description="", data={"test": "test"}, metrics=()),
    "vqa": Task(
        name="v",
        version=3,
        kind="vqa",
        description="",
        data={"test": "test", "test_questions": "q", "test_annotations": "a"}
        | {"train_questions": "tq", "train_annotations": "ta"},
        metrics=("vqa",),
    ),
}


@dataclass(frozen=True)
class Question:
    question_id: int
    answers: tuple[str, ...]
    image_key: str = "0"
    question: str = "what?"
    question_type: str = "what"
    answer_type: str = "other"


QUESTIONS = {
    "q": [Question(i, (ANSWERS[i % 2],) * 10) for i in range(6)],
    "tq": [Question(i, ("cat",) * 10) for i in range(5)],
}


class Pairs:
    """Picture i and text i both hold the number i."""

    def __init__(self, shards: str, parts: str = "pairs") -> None:
        self.keys = [f"key{i}" for i in range(PAIRS)]

    def __len__(self) -> int:
        return PAIRS

    def caption(self, i: int) -> str:
        return f"caption {i}"


def batch_of(numbers: list[int]) -> ImageTextBatch:
    pixels = torch.tensor(numbers, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    ids = torch.tensor(numbers)[:, None]
    texts = Texts(ids_BL=ids, valid_BL=torch.ones_like(ids, dtype=torch.bool))
    return ImageTextBatch(images=Images(pixels_BCHW=pixels), texts=texts)


def iterate_pairs(
    dataset: Pairs,
    tokenizer: Any,
    vision: VisionConfig,
    text: TextConfig,
    batch_size: int,
    *,
    stream: str,
    chosen: range,
    **_: Any,
) -> Iterator[ImageTextBatch]:
    assert stream == "images"
    for start in range(0, len(chosen), batch_size):
        yield batch_of(list(chosen[start : start + batch_size]))


def iterate_texts(texts: list[str], tokenizer: Any, text: TextConfig, size: int) -> Iterator[Texts]:
    for start in range(0, len(texts), size):
        found = batch_of([int(said.removeprefix("caption ")) for said in texts[start : start + size]]).texts
        assert found is not None
        yield found


def iterate_vqa(
    dataset: Pairs,
    examples: list[Question],
    answers: Any,
    tokenizer: Any,
    vision: Any,
    text: Any,
    batch_size: int,
    **_: Any,
) -> Iterator[VQABatch]:
    for start in range(0, len(examples), batch_size):
        ids = [example.question_id for example in examples[start : start + batch_size]]
        yield VQABatch(pairs=batch_of(ids), targets_BA=torch.zeros(len(ids), 3), question_ids=tuple(ids))


class Model(torch.nn.Module):
    """Knows every pair but the last two, which it mixes up; answers "dog" to everything."""

    vision = VisionConfig(image_size=4, patch_size=2)
    text = TextConfig(vocab_size=64, max_length=4)
    answers = ANSWERS

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(7))

    def embed_images(self, images: Images) -> torch.Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        return torch.eye(PAIRS)[images.pixels_BCHW[:, 0, 0, 0].long()]

    def embed_texts(self, texts: Texts) -> torch.Tensor:
        order = torch.arange(PAIRS)
        order[-2:] = order[-2:].flip(0)
        return torch.eye(PAIRS)[order[texts.ids_BL[:, 0]]]

    def answer_logits(self, pairs: ImageTextBatch) -> torch.Tensor:
        return torch.tensor([2.0, 1.0, 0.0]).expand(len(pairs), 3)


@pytest.fixture(autouse=True)
def data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for kind in (retrieval, vqa):
        monkeypatch.setattr(kind, "ShardDataset", Pairs)
    monkeypatch.setattr(embedded, "iterate_pairs", iterate_pairs)
    monkeypatch.setattr(embedded, "iterate_texts", iterate_texts)
    monkeypatch.setattr(vqa, "iterate_vqa", iterate_vqa)
    monkeypatch.setattr(answered, "read_vqa", lambda questions, annotations: QUESTIONS[Path(questions).name])
    monkeypatch.setattr(runner, "expand_shards", lambda path: [Shard(path)])
    for name in ("test", "q", "a", "tq", "ta"):
        (tmp_path / name).write_text(name)
    return tmp_path


def run(kind: str, root: Path, model: Any = None, **changes: Any) -> Any:
    facts = runner.ModelFacts(name="model", config={"dim": 3})
    options = {"tokenizer": None, "facts": facts, "data_dir": root, "batch_size": 5, **changes}
    return runner.evaluate(model or Model(), TASKS[kind], **options)


def test_retrieval(data: Path) -> None:
    model = Model()
    evaluation = run("retrieval", data, model, seed=4)
    record = evaluation.record
    assert model.training
    assert record.metrics["image_retrieval_recall@1"] == pytest.approx(10 / 12)
    # The two mixed-up texts tie at 0 with every picture but the one they point at: the worst rank.
    assert [sample["image_rank"] for sample in evaluation.samples] == [1] * 10 + [12] * 2
    assert evaluation.samples[3]["top_images"][0] == "key3"
    assert (record.samples, record.seed, record.parameters_total, record.task_version) == (12, 4, 7, 1)
    assert set(record.checksums) == {"test/test"}
    low, high = record.intervals["image_retrieval_recall@1"]
    assert low < 10 / 12 < high
    assert record.per_sample["image_retrieval_recall@10"] == [1.0] * 10 + [0.0] * 2
    chance = chance_row(record)
    assert chance.scores["text_retrieval_recall@1"] == pytest.approx([1 / 12])


def test_vqa(data: Path) -> None:
    evaluation = run("vqa", data)
    assert evaluation.record.metrics["vqa"] == pytest.approx(0.5)
    assert evaluation.record.metrics["question_only/vqa"] == pytest.approx(0.5)
    assert evaluation.record.metrics["vqa_answerable"] == 1.0
    for name, values in evaluation.record.per_sample.items():
        assert len(values) == 6 and np.mean(values) == pytest.approx(evaluation.record.metrics[name])
    assert score_row("x", "main", [evaluation.record]).per_sample == {"vqa": evaluation.record.per_sample["vqa"]}
    assert set(question_only_row(evaluation.record).per_sample) == {"vqa"}
    assert json.loads(evaluation.files["results.json"]) == [{"question_id": i, "answer": "dog"} for i in range(6)]
    assert evaluation.samples[1]["top"] == ["dog", "cat", "yes"]
    assert question_type_counts(evaluation.record) == {"what": 6}
    assert question_only_row(evaluation.record).scores["vqa_answer_type/other"] == [0.5]


def test_limit_takes_the_first(data: Path) -> None:
    assert run("retrieval", data, limit=7).record.metrics["image_retrieval_candidates"] == 7
    evaluation = run("vqa", data, limit=1)
    assert evaluation.record.metrics["vqa"] == 1.0
    assert evaluation.record.config["limit"] == 1


def test_other_data(data: Path) -> None:
    (data / "other").write_text("x")
    assert run("retrieval", data, data={"test": data / "other"}).record.checksums.keys() == {"test/other"}
    own = {"test": data / "other", "test_questions": data / "q", "test_annotations": data / "a"}
    assert "question_only/vqa" not in run("vqa", data, data=own).record.metrics
    with pytest.raises(ValueError, match="nonsense is not used"):
        run("vqa", data, data={"nonsense": "x"})
    with pytest.raises(ValueError, match="belong together"):
        run("vqa", data, data={"test": "x"})


def test_a_model_of_another_task_is_refused(data: Path) -> None:
    with pytest.raises(ValueError, match="needs a retrieval model"):
        run("retrieval", data, SimpleNamespace(answer_logits=None))
    with pytest.raises(ValueError, match="needs a VQA model"):
        run("vqa", data, SimpleNamespace(embed_texts=None))


def test_files(data: Path, tmp_path: Path) -> None:
    evaluation = run("vqa", data)
    path = runner.write_evaluation(evaluation, tmp_path / "out", log_samples=True)
    assert read_record(path) == evaluation.record
    assert (tmp_path / "out" / "v.results.json").read_text() == evaluation.files["results.json"]
    lines = (tmp_path / "out" / "v.samples.jsonl").read_text().splitlines()
    assert [json.loads(line)["question_id"] for line in lines] == list(range(6))
    runner.write_evaluation(run("retrieval", data), tmp_path / "less")
    assert [path.name for path in (tmp_path / "less").iterdir()] == ["r.json"]


def test_rows_join_tasks_and_seeds(data: Path) -> None:
    records = [run(kind, data, seed=seed).record for seed in (1, 0) for kind in ("retrieval", "vqa")]
    row = score_row("main", "main", records)
    assert row.scores["vqa"] == pytest.approx([0.5, 0.5])
    assert set(row.scores) >= {"image_retrieval_recall@10", "vqa_question_type/what"}
    assert not any("chance" in metric or "rank" in metric or "count" in metric for metric in row.scores)
    with pytest.raises(ValueError, match="twice"):
        score_row("main", "main", [records[0], records[0]])
