"""Kinds about pictures alone or in twos, run whole on held-out clip-art with minuscule models of random weights.

Truth: scores counted anew from what the models say of each picture, one at a time.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from mm_mhmoe_data.clip_benchmark import read_clip_benchmark
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.statements import read_statements
from mm_mhmoe_data.tokenizer import Tokenizer, train_tokenizer
from mm_mhmoe_data.transforms import EvalTransform
from mm_mhmoe_eval.runner import Evaluation, ModelFacts, evaluate, write_evaluation
from mm_mhmoe_eval.tasks import Task, load_task

from mm_mhmoe.batch import Images
from mm_mhmoe.config import EncoderConfig, TextConfig, VisionConfig
from mm_mhmoe.models.tasks import ClassificationModel, NLVR2Model, RetrievalModel, TaskModel, VQAModel

DEMO = Path(__file__).parents[2] / "data" / "mm_mhmoe_data" / "demo"
CONFIG = EncoderConfig(
    dim=24,
    depth=1,
    num_heads=2,
    ffn_dim=48,
    ffn="dense",
    vision=VisionConfig(image_size=32, patch_size=16),
    text=TextConfig(vocab_size=120, max_length=16),
)
VAL = {"test": DEMO / "val"}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    dataset = ShardDataset(DEMO / "val")
    captions = [dataset.caption(i) for i in range(len(dataset))]
    return Tokenizer.load(train_tokenizer(captions, tmp_path_factory.mktemp("words"), vocab_size=120))


@pytest.fixture(scope="module")
def run(tokenizer: Tokenizer) -> Callable[..., Evaluation]:
    def evaluation(model: Any, task: str | Task, data: dict[str, Path], **options: Any) -> Evaluation:
        loaded = load_task(task) if isinstance(task, str) else task
        return evaluate(model, loaded, tokenizer=tokenizer, facts=ModelFacts(name="m"), data=data, **options)

    return evaluation


def make(kind: Callable[..., TaskModel], *arguments: Any) -> TaskModel:
    torch.manual_seed(0)
    model = kind(CONFIG, *arguments)
    with torch.no_grad():
        for parameter in model.head.parameters():  # heads that start small would tie
            parameter.add_(torch.randn_like(parameter))
    return model.eval()


def pixels(dataset: ShardDataset, index: int) -> Images:
    return Images(pixels_BCHW=EvalTransform(32)(dataset.picture(index))[None])


def test_nlvr2(run, tmp_path: Path) -> None:
    data = {**VAL, "test_statements": DEMO / "nlvr2" / "val.jsonl"}
    learned = {"train": DEMO / "train", "train_statements": DEMO / "nlvr2" / "train.jsonl"}
    found = run(make(NLVR2Model), "nlvr2_openclipart", data | learned, batch_size=7)
    rows = read_statements(VAL["test"], data["test_statements"]).rows
    metrics, samples = found.record.metrics, found.samples
    assert [sample["identifier"] for sample in samples] == [row.identifier for row in rows]
    right = [(sample["probability"] > 0.5) == row.label for sample, row in zip(samples, rows, strict=True)]
    assert metrics["nlvr2_accuracy"] == sum(right) / 400 and 0.3 < metrics["nlvr2_accuracy"] < 0.7
    groups = [all(right[start : start + 4]) for start in range(0, 400, 4)]
    assert metrics["nlvr2_consistency"] == sum(groups) / 100
    assert metrics["sentence_only/nlvr2_accuracy"] == metrics["chance/nlvr2_accuracy"] == 0.5
    assert metrics["chance/nlvr2_consistency"] == 1 / 16
    assert len({sample["probability"] > 0.5 for sample in samples}) == 2
    write_evaluation(found, tmp_path)
    lines = (tmp_path / "nlvr2_openclipart.predictions.csv").read_text().splitlines()
    assert lines[0] == f"{rows[0].identifier},{samples[0]['probability'] > 0.5}" and len(lines) == 400
    few = run(make(NLVR2Model), "nlvr2_openclipart", data, limit=9)
    assert few.record.samples == 9 and few.samples[8]["probability"] == pytest.approx(
        samples[8]["probability"], abs=1e-5
    )


def test_classification(run) -> None:
    classes = ("animals", "computers", "flags", "food", "music", "people")
    model = make(ClassificationModel, classes)
    found = run(model, "classification_openclipart", VAL, batch_size=16)
    dataset = ShardDataset(VAL["test"], "images")
    of_class = {i: c for i in range(len(dataset)) if (c := dataset.metadata(i)["category"]) in classes}
    guesses = {i: classes[int(model.class_logits(pixels(dataset, i)).argmax())] for i in of_class}
    assert found.record.samples == len(of_class) < len(dataset)
    assert found.record.metrics["accuracy@1"] == sum(guesses[i] == c for i, c in of_class.items()) / len(of_class)
    assert [(s["key"], s["top"][0]) for s in found.samples] == [(dataset.keys[i], g) for i, g in guesses.items()]
    table = list(csv.reader(io.StringIO(found.files["confusion.csv"])))
    counts = Counter(zip(of_class.values(), guesses.values(), strict=True))
    assert [[int(n) for n in row[1:]] for row in table[1:]] == [[counts[a, b] for b in classes] for a in classes]


def test_zero_shot(run, tokenizer: Tokenizer) -> None:
    model = make(RetrievalModel, 8)
    found = run(model, "zero_shot_openclipart", {**VAL, "train": DEMO / "val"}, batch_size=32)
    classes = sorted({sample["class"] for sample in found.samples})
    assert len(classes) == found.record.metrics["classes"] == 3  # of at least 20 pictures
    names = []
    for name in classes:
        ids = torch.tensor([tokenizer.encode(name, 16)])
        names.append(model.embed_texts(_texts(ids)))
    dataset = ShardDataset(VAL["test"], "images")
    index_of = {key: i for i, key in enumerate(dataset.keys)}
    for sample in found.samples[:20]:
        scores = [float((model.embed_images(pixels(dataset, index_of[sample["key"]])) * name).sum()) for name in names]
        assert sample["top"][0] == classes[scores.index(max(scores))]


def _texts(ids_BL: torch.Tensor):
    from mm_mhmoe.batch import Texts

    return Texts(ids_BL=ids_BL, valid_BL=torch.ones_like(ids_BL, dtype=torch.bool))


def test_probe(run) -> None:
    """Of itself, every picture is its own nearest neighbour; the linear classifier gets better than the commonest."""
    model = make(VQAModel, ["yes"])
    task = Task(
        name="p", version=1, kind="probe", description="", data={"test": "val", "train": "val"}, metrics=(),
        options={"label_field": "category", "min_class_count": 20},
    )  # fmt: skip
    found = run(model, task, {}, batch_size=50).record.metrics
    assert found["classes"] == 3 and found["train_pictures"] == found["commonest/accuracy@1"] ** -1 * 86
    assert found["linear/accuracy@1"] > found["commonest/accuracy@1"] > found["chance/accuracy@1"]
    assert found["knn/accuracy@1"] > found["commonest/accuracy@1"]


def test_what_does_not_fit(run) -> None:
    model = make(VQAModel, ["yes"])
    for task in ("nlvr2_openclipart", "classification_openclipart", "zero_shot_openclipart"):
        with pytest.raises(ValueError, match=r"VQAModel does not .* task needs a"):
            run(model, task, VAL if task != "nlvr2_openclipart" else {})
    with pytest.raises(ValueError, match="must map some of label_field, min_class_count"):
        Task(name="p", version=1, kind="probe", description="", data={"test": "t", "train": "t"}, metrics=(),
             options={"colour": "red"})  # fmt: skip


def test_sets_of_clip_benchmark_as_they_are(run) -> None:
    root = Path(__file__).parents[1] / "data" / "files" / "clip_benchmark" / "classification"
    split = read_clip_benchmark(root)
    data = {"test": root / "test"}
    whole = Task(name="c", version=1, kind="classification", description="", data={"test": "test"}, metrics=())
    model = make(ClassificationModel, split.classnames)
    found = run(model, whole, data)
    dataset = ShardDataset(root / "test", "images")
    right = [int(model.class_logits(pixels(dataset, i)).argmax()) == split.labels(i)[0] for i in range(len(split))]
    assert found.record.metrics["accuracy@1"] == pytest.approx(sum(right) / len(right))
    with pytest.raises(ValueError, match="the model tells 2 classes"):
        run(make(ClassificationModel, ["cat", "dog"]), whole, data)
    by_name = replace(whole, kind="zero_shot")
    assert run(make(RetrievalModel, 8), by_name, data).record.metrics["templates"] == len(split.templates) == 2
