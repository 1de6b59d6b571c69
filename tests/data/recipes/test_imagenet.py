"""ImageNet-1k on a small folder that is laid out like the original, with three of its classes.

What is written is read by webdataset in the way that CLIP_benchmark reads a classification set.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import webdataset
from mm_mhmoe_data.labelled import read_labelled
from mm_mhmoe_data.recipes.imagenet import plan_imagenet
from mm_mhmoe_data.recipes.research_options import BuildOptions

# Labels and names as everybody has them: 0 is tench, 1 goldfish, 999 toilet paper.
CLASSES = {"n01440764": 0, "n01443537": 1, "n15075141": 999}
VAL = ["n15075141", "n01440764", "n01443537", "n01440764"]
OPTIONS = BuildOptions(samples_per_shard=3)


@pytest.fixture
def root(tmp_path: Path, put, photo) -> Path:
    root = tmp_path / "imagenet"
    for number, wnid in enumerate(CLASSES):
        for copy in range(2):
            put(root / "train" / wnid / f"{wnid}_{copy}.JPEG", photo(2 * number + copy, "PNG" if copy else "JPEG"))
    for number, wnid in enumerate(VAL, 1):
        put(root / "val" / wnid / f"ILSVRC2012_val_{number:08d}.JPEG", photo(10 + number))
    return root


@pytest.fixture
def flat(root: Path) -> Path:
    for path in (root / "val").glob("*/*.JPEG"):
        path.rename(root / "val" / path.name)
    for wnid in CLASSES:
        (root / "val" / wnid).rmdir()
    return root


def test_clip_benchmark_reads_it(root: Path, build) -> None:
    built = build(plan_imagenet(root, OPTIONS))
    shards = int((built.out / "train" / "nshards.txt").read_text())
    reader = webdataset.WebDataset(str(built.out / f"train/{{0..{shards - 1}}}.tar"), shardshuffle=False).decode()
    rows = list(reader.to_tuple("__key__", "cls", "txt"))
    names = [line.strip() for line in (built.out / "classnames.txt").read_text().splitlines()]
    assert len(names) == 1000 and (names[0], names[1], names[999]) == ("tench", "goldfish", "toilet paper")
    assert {key: label for key, label, _ in rows} == {f"{w}_{copy}": CLASSES[w] for w in CLASSES for copy in range(2)}
    assert all(text == names[label] for _, label, text in rows)
    assert (built.out / "dataset_type.txt").read_text().strip() == "classification"
    templates = (built.out / "zeroshot_classification_templates.txt").read_text().splitlines()
    assert len(templates) == 80 and templates[0] == "a bad photo of a {c}."
    ours = read_labelled(built.out / "train")
    assert ours.classes == tuple(names)
    assert {ours.key(i): int(label) for i, label in enumerate(ours.labels())} == {key: label for key, label, _ in rows}
    assert built.manifest["expected"]["train classes"] == {"expected": 1000, "found": 3}
    assert built.manifest["expected"]["val"] == {"expected": 50_000, "found": 4}


def test_members_are_named_for_what_they_are(root: Path, build, facts, photo) -> None:
    built = build(plan_imagenet(root, OPTIONS))
    found = built.by_key("train")
    assert found["n01443537_0"].parts["jpg"] == photo(2)
    assert found["n01443537_1"].parts["png"] == photo(3, "PNG")  # ImageNet too has a PNG that is called .JPEG
    assert facts(found["n01443537_1"]) | {"wnid": "n01443537", "label": 1, "caption": "goldfish"} == facts(
        found["n01443537_1"]
    )


def test_classes_are_mixed_in_the_same_way_each_time(root: Path) -> None:
    def order(seed: int) -> list[str]:
        plan = plan_imagenet(root, OPTIONS, seed=seed)
        return [sample.key for job in plan.jobs if job.split == "train" for sample in job.make()]

    assert order(0) == order(0) != sorted(order(0)) == sorted(order(1))


@pytest.mark.parametrize("form", ["csv", "txt"])
def test_a_flat_validation_set_takes_its_classes_from_a_file(flat: Path, put, form: str, build) -> None:
    names = [f"ILSVRC2012_val_{number:08d}" for number in range(1, 5)]
    rows = [f"{name},{wnid} 1 2 3 4 {wnid} 5 6 7 8" for name, wnid in zip(names, VAL, strict=True)]
    text = "\n".join(["ImageId,PredictionString", *rows[::-1]] if form == "csv" else VAL)
    built = build(plan_imagenet(flat, OPTIONS, val_labels=put(flat / f"labels.{form}", text)))
    found = built.by_key("val")
    assert {key: int(found[key].parts["cls"]) for key in sorted(found)} == dict(
        zip(names, [CLASSES[wnid] for wnid in VAL], strict=True)
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("490\n361\n171\n822\n", "development kit's numbers"),
        ("n01440764\n", "1 classes for the 4 pictures"),
        (
            "ImageId,PredictionString\nILSVRC2012_val_00000001,n01440764 1 2 3 4\n",
            "no class for ILSVRC2012_val_00000002",
        ),
        ("n00000000\n" * 4, "'n00000000' is not one of the 1,000 classes"),
        ("ImageId,Label\nILSVRC2012_val_00000001,n01440764\n", "is not a file of classes"),
    ],
)
def test_unusable_labels_are_one_clear_error(flat: Path, put, labels: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_imagenet(flat, OPTIONS, val_labels=put(flat / "labels", labels))


def test_a_flat_validation_set_without_labels_is_refused(flat: Path) -> None:
    with pytest.raises(ValueError, match=r"outside of class folders.*--val_labels"):
        plan_imagenet(flat, OPTIONS)


def test_another_folder_of_pictures_is_sent_to_its_recipe(root: Path, put, photo) -> None:
    put(root / "train" / "owls" / "1.JPEG", photo(1))
    with pytest.raises(ValueError, match=r"'owls' is not one of the 1,000 classes.*'folder'"):
        plan_imagenet(root, OPTIONS)
