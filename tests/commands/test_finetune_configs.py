"""Every configuration of a fine-tuning is read by the command that it names. Truth: BEiT-3's published recipes."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from mm_mhmoe.commands.parser import configured

FOLDER = Path(__file__).parents[2] / "configs" / "finetune"
# lr, layer decay, head's factor, weight decay, beta2, warm-up share, drop-path, picture size, rows a step
PUBLISHED = {
    "retrieval_coco_base": (2e-4, 0.65, 1.0, 0.05, 0.999, 3 / 15, 0.2, 384, 3072),
    "retrieval_flickr30k_base": (1e-4, 0.65, 1.0, 0.05, 0.999, 5 / 20, 0.2, 384, 3072),
    "captioning_coco_base": (4e-5, 1.0, 1.0, 0.05, 0.999, 1 / 10, 0.1, 480, 256),
    "vqav2_base": (3e-5, 1.0, 20.0, 0.01, 0.98, 1 / 10, 0.1, 480, 128),
}


def read(name: str):
    """Content, and options as the command takes them."""
    path = FOLDER / f"{name}.yaml"
    content = path.read_text()
    assert content.startswith("# ") and "# Source: " in content
    command = re.search(rf"#   mm-mhmoe finetune (\w+) --config configs/finetune/{name}\.yaml\n", content)
    assert command is not None, "the file opens with the command that runs it"
    function = getattr(import_module(f"mm_mhmoe.commands.finetune.{command[1]}"), command[1])
    return content, configured(function, path)


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_every_one_is_read(name: str) -> None:
    content, values = read(name)
    assert values["optim"].warmup_steps < values["steps"]
    assert f"out: runs/finetune/{name}\n" in content


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_details(name: str) -> None:
    _, values = read(name)
    optim, encoder, run = values["optim"], values["encoder"], values["run"]
    rows = values["batch_size"] * run.devices * run.accumulate
    found = (
        *(optim.lr, optim.layer_decay, optim.head_lr_scale, optim.weight_decay, optim.beta2),
        *(optim.warmup_steps / values["steps"], encoder.drop_path, encoder.vision.image_size, rows),
    )
    assert found == pytest.approx(PUBLISHED[name])
    assert (encoder.dim, encoder.depth, encoder.text.vocab_size, encoder.multiway) == (768, 12, 64010, True)
    assert (optim.beta1, optim.eps, optim.clip_norm, values["min_scale"]) == (0.9, 1e-8, 0.0, 0.5)


@pytest.mark.parametrize(("name", "captions", "epochs"), [("coco", 566_747, 15), ("flickr30k", 145_000, 20)])
def test_epochs_of_captions(name: str, captions: int, epochs: int) -> None:
    """Karpathy's train and restval, five captions a picture or more; whole batches only."""
    _, values = read(f"retrieval_{name}_base")
    assert values["steps"] == captions // 3072 * epochs
    assert values["batch_size"] % values["chunk"] == 0
