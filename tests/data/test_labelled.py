"""Classes of pictures: of CLIP_benchmark's own files, and of the shipped clip-art's .json."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from mm_mhmoe_data.clip_benchmark import read_clip_benchmark
from mm_mhmoe_data.datamodules import ClassificationDataModule
from mm_mhmoe_data.labelled import read_labelled, read_names
from mm_mhmoe_data.shards import Sample, write_shards
from mm_mhmoe_data.shards.indexed import SampleError

FILES = Path(__file__).parent / "files" / "clip_benchmark" / "classification"
DEMO = Path(__file__).parents[2] / "data" / "mm_mhmoe_data" / "demo"


def test_clip_benchmarks_sets_are_read_as_they_are() -> None:
    labelled, theirs = read_labelled(FILES / "test"), read_clip_benchmark(FILES)
    assert labelled.classes == theirs.classnames and len(labelled) == len(theirs)
    assert labelled.labels().tolist() == [theirs.labels(i)[0] for i in range(len(theirs))]
    assert labelled.labels(2).tolist() == labelled.labels().tolist()[:2] and labelled.left_out == 0
    assert read_names(FILES / "zeroshot_classification_templates.txt") == theirs.templates


def test_a_field_of_json_gives_frequent_classes() -> None:
    labelled = read_labelled(DEMO / "val", field="category", min_count=9)
    values = [labelled.dataset.metadata(i)["category"] for i in range(len(labelled.dataset))]
    frequent = {value for value, count in Counter(values).items() if value and count >= 9}
    assert labelled.classes == tuple(sorted(frequent)) and "" in values
    assert [labelled.classes[label] for label in labelled.labels().tolist()] == [v for v in values if v in frequent]
    assert labelled.left_out == len(values) - len(labelled)
    given = read_labelled(DEMO / "val", field="category", classes=["flags", "food"])
    assert given.classes == ("flags", "food") and len(given) == values.count("flags") + values.count("food")


def test_batches_hold_each_picture_with_its_class(vision) -> None:
    labelled = read_labelled(DEMO / "val", field="category", classes=["animals", "food"])
    module = ClassificationDataModule(labelled, vision, batch_size=8, num_steps=3, seed=1)
    module.setup("fit")
    batches = [module.make_batch(step) for step in range(3)]
    number_of = {labelled.key(i): int(label) for i, label in enumerate(labelled.labels())}
    seen = [key for batch in batches for key in batch.images.keys]
    assert sorted(seen) == sorted(number_of)  # 24 pictures, each once
    for batch in batches:
        assert batch.labels_B.tolist() == [number_of[key] for key in batch.images.keys]
        assert batch.images.images.pixels_BCHW.shape == (8, 3, 32, 32) and batch.images.texts is None
    assert torch.equal(module.make_batch(1).images.images.pixels_BCHW, batches[1].images.images.pixels_BCHW)


def test_what_has_no_class(tmp_path: Path, make_picture) -> None:
    samples = [Sample(key=f"{i:04d}", parts={"png": make_picture(i), "cls": b"%d" % i}) for i in range(3)]
    write_shards(samples, tmp_path / "set" / "train", 0, 10)
    with pytest.raises(ValueError, match=r"classnames\.txt does not exist or is empty; name the classes"):
        read_labelled(tmp_path / "set" / "train")
    (tmp_path / "set" / "classnames.txt").write_text("cat\ndog\n")
    labelled = read_labelled(tmp_path / "set" / "train")
    assert labelled.label(1) == 1
    with pytest.raises(SampleError, match="0002 has class 2, but there are 2"):
        labelled.labels()
    with pytest.raises(ValueError, match=r"no picture of .* has a class in the field 'species'"):
        read_labelled(tmp_path / "set" / "train", field="species")
    with pytest.raises(ValueError, match="a name a line"):
        read_names(tmp_path / "nothing.txt")
