"""Golden models of BEiT-3's own fine-tuning code (tests/golden/make_beit3_finetuned.py): what they answer, and names
and shapes of the weights of its published base models."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from mm_mhmoe.batch import Images, ImageTextBatch, Texts
from mm_mhmoe.models.importing import beit3_config, beit3_model, beit3_task
from mm_mhmoe.models.importing.beit3 import beit3_encoder
from mm_mhmoe.models.tasks import TaskModel

GOLDEN = Path(__file__).parents[1] / "golden"
TASKS = ("retrieval", "vqa", "nlvr2", "captioning", "imagenet")
NAMES = {"vqa": [f"answer {n}" for n in range(5)], "imagenet": [f"class {n}" for n in range(6)]}


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / "beit3_finetuned.safetensors")


def checkpoint(golden, task: str) -> dict[str, torch.Tensor]:
    """As it would be released: without the last LayerNorm where the task has none."""
    own = {k.removeprefix(f"{task}:"): v for k, v in golden.items() if k.startswith(f"{task}:")}
    encoder = {k.removeprefix("encoder."): v for k, v in golden.items() if k.startswith("encoder.")}
    if task in ("vqa", "imagenet"):
        encoder = {k: v for k, v in encoder.items() if "encoder.layer_norm." not in k}
    return encoder | own


def imported(golden, task: str) -> TaskModel:
    weights = checkpoint(golden, task)
    config = beit3_config(weights, "x.pth", num_heads=2, max_length=7)
    assert beit3_task(weights) == {"captioning": "pretrain"}.get(task, task)
    return beit3_model(weights, config, "x.pth", 8, task=task, names=NAMES.get(task, ()))


def test_the_answers_of_every_task(golden) -> None:
    left, right = (Images(pixels_BCHW=golden[side]) for side in ("left", "right"))
    texts = Texts(ids_BL=golden["ids"], valid_BL=~golden["padding"])
    pairs = ImageTextBatch(images=left, texts=texts)
    with torch.no_grad():
        retrieval = imported(golden, "retrieval")
        found = {"retrieval.image": retrieval.embed_images(left), "retrieval.text": retrieval.embed_texts(texts)}
        found["vqa.logits"] = imported(golden, "vqa").answer_logits(pairs)
        found["nlvr2.logits"] = imported(golden, "nlvr2").judge(pairs, ImageTextBatch(images=right, texts=texts))
        captioning = imported(golden, "captioning")
        states, _ = captioning(ImageTextBatch(images=left, texts=texts, causal_text=True))
        found["captioning.logits"] = captioning.head(states[golden["asked"]])
        found["imagenet.logits"] = imported(golden, "imagenet").class_logits(left)
    for name, value in found.items():
        torch.testing.assert_close(value, golden[name], rtol=1e-4, atol=2e-5)
        assert value.std() > 0.05, name
    assert F.cosine_similarity(golden["retrieval.image"], golden["retrieval.text"]).abs().max() < 0.99


@pytest.mark.parametrize("task", TASKS)
def test_names_and_shapes_of_the_published_base_models(task: str) -> None:
    """On torch's meta device, which has shapes and no numbers. Every weight of theirs is asked for, and all of ours."""
    told = json.loads((GOLDEN / "beit3_finetuned_names.json").read_text())
    shapes = told["common"] | told[task]
    weights = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    config = beit3_config(weights, "x.pth")
    sizes = {"retrieval": 384, "vqa": 480, "captioning": 480}
    assert (config.dim, config.depth, config.num_heads, config.vision.image_size) == (768, 12, 12, sizes.get(task, 224))
    assert config.final_norm == (task not in ("vqa", "imagenet"))
    counts = {"vqa": 3129, "imagenet": 1000}
    with torch.device("meta"):
        model = beit3_model(weights, config, "x.pth", 8, task=task, names=[""] * counts.get(task, 0))
    ours = {k.removeprefix("encoder."): v for k, v in model.state_dict().items() if k.startswith("encoder.")}
    encoder = beit3_encoder(weights, config, "x.pth")
    assert {k: v.shape for k, v in encoder.items()} == {k: v.shape for k, v in ours.items()}
    for name in [name for name in shapes if not name.startswith("beit3.")]:
        with pytest.raises(ValueError, match="has no"), torch.device("meta"):
            rest = {k: v for k, v in weights.items() if k != name}
            beit3_model(rest, config, "x.pth", 8, task=task, names=[""] * counts.get(task, 0))


@pytest.mark.parametrize("task", ["vqa", "imagenet"])
def test_as_many_names_as_the_head_tells_apart(golden, task: str) -> None:
    weights = checkpoint(golden, task)
    config = beit3_config(weights, "x.pth", num_heads=2, max_length=7)
    with pytest.raises(ValueError, match=r"x.pth tells [56] apart, but there are 2 names; .* as --names"):
        beit3_model(weights, config, "x.pth", 8, names=["a", "b"])
    assert beit3_model(weights, config, "x.pth", 8, task="pretrain").kind == "pretrain"
