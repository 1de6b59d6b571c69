"""The commands of the research recipes, from the words to the files, on small folders laid out like the originals."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from mm_mhmoe_data.pipeline import ShardDataset
from PIL import Image


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Three plain pictures with made-up captions in COCO's layout."""
    root = tmp_path / "coco"
    rows = []
    for number, split in enumerate(("train", "val", "test"), 1):
        folder = "train2014" if split == "train" else "val2014"
        name = f"COCO_{folder}_{number:012d}.jpg"
        (root / folder).mkdir(parents=True, exist_ok=True)
        Image.effect_noise((40, 30), random.Random(number).uniform(20, 90)).save(root / folder / name)
        sentences = [{"raw": f"caption {number}", "sentid": number}]
        rows.append({"filepath": folder, "filename": name, "cocoid": number, "split": split, "sentences": sentences})
    (root / "dataset_coco.json").write_text(json.dumps({"dataset": "coco", "images": rows}))
    return root


def test_coco_from_the_command_to_the_reader(call, coco: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said, _ = call("data", "build", "coco", "--root", coco, "--out", out, "--workers", 1)
    assert code == 0
    assert "train 1, val 1, test 1 samples" in said
    assert "train 1, expected 113,287" in said
    dataset = ShardDataset(out / "train")
    assert dataset.caption(0) == "caption 1" and tuple(dataset.picture(0).shape) == (3, 30, 40)
    card = (out / "README.md").read_text()
    assert "113,287" in card and "$" not in card
    assert str(tmp_path) not in card + (out / "manifest.json").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["coco", "--image_size", "7"], "image_size=7"),
        (["coco", "--limit", "0"], "limit=0"),
        (["flickr30k"], "flickr30k-images is not a folder"),
        (["visual-genome"], "VG_100K is not a folder"),
        (["vqav2"], "v2_OpenEnded_mscoco_train2014_questions.json does not exist"),
        (["nlvr2"], "neither a folder images/train nor train"),
        (["nocaps"], "nocaps_val_4500_captions.json does not exist"),
        (["imagenet"], "train is not a folder"),
        (["img2dataset"], "holds no .tar file"),
        (["beit3", "--task", "nlvr2"], "holds no index file of task 'nlvr2'"),
    ],
)
def test_a_wrong_root_is_one_sentence(call, coco: Path, tmp_path: Path, words: list[str], said: str) -> None:
    code, _, err = call("data", "build", *words, "--root", coco, "--out", tmp_path / "out")
    assert code == 1 and said in " ".join(err.split())
    assert not (tmp_path / "out").exists()
