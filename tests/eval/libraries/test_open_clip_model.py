"""Against what open_clip computes by itself: its preprocessing of the PIL picture, its tokenizer, its encoders."""

from __future__ import annotations

import io
import json
from pathlib import Path

import open_clip
import pytest
import torch
from mm_mhmoe_data.labelled import read_labelled
from mm_mhmoe_data.ordered import iterate_pairs
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_eval.libraries import OpenClipModel, load_library_model
from mm_mhmoe_eval.protocol import EmbedsPairs
from mm_mhmoe_eval.retrieval import retrieval_scores
from mm_mhmoe_eval.runner import ModelFacts, evaluate
from mm_mhmoe_eval.tasks import load_task
from PIL import Image

from mm_mhmoe.commands.sources import data_path

PAIRS = 24
ARCHITECTURES = {
    "tiny-vit": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "tiny-resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
}


@pytest.fixture(scope="module", autouse=True)
def tiny(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("open_clip")
    text = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    for name, vision in ARCHITECTURES.items():
        (folder / f"{name}.json").write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(folder)


@pytest.fixture(scope="module")
def dataset() -> ShardDataset:
    return ShardDataset(data_path("demo:test"))


def embedded(model: OpenClipModel, dataset: ShardDataset) -> tuple[torch.Tensor, torch.Tensor]:
    images, texts = [], []
    for batch in iterate_pairs(
        dataset, model.tokenizer, model.vision, model.text, 10, chosen=range(PAIRS), transform=model.transform
    ):
        images.append(model.embed_images(batch.images))
        texts.append(model.embed_texts(batch.texts))
    return torch.cat(images), torch.cat(texts)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_embeddings_are_those_of_open_clip(architecture: str, dataset: ShardDataset) -> None:
    ours = load_library_model(f"open_clip:{architecture}/random").model
    assert isinstance(ours, EmbedsPairs)
    image_ME, text_ME = embedded(ours, dataset)

    torch.manual_seed(0)
    model, _, preprocess = open_clip.create_model_and_transforms(architecture)
    model.eval()
    pictures = [Image.open(io.BytesIO(dataset.image_bytes(i))) for i in range(PAIRS)]
    white = [Image.alpha_composite(Image.new("RGBA", p.size, "white"), p.convert("RGBA")) for p in pictures]
    with torch.no_grad():
        want_ME = model.encode_image(torch.stack([preprocess(p.convert("RGB")) for p in white]), normalize=True)
        captions = [dataset.caption(i) for i in range(PAIRS)]
        said_ME = model.encode_text(open_clip.get_tokenizer(architecture)(captions), normalize=True)
    torch.testing.assert_close(image_ME, want_ME, atol=1e-5, rtol=0)
    torch.testing.assert_close(text_ME, said_ME, atol=1e-5, rtol=0)

    scores = retrieval_scores(image_ME, text_ME, torch.arange(PAIRS), ks=(5,))
    top_M5 = (want_ME @ said_ME.T).topk(5).indices
    hits = (top_M5 == torch.arange(PAIRS)[:, None]).any(1).double().mean().item()
    assert scores["text_retrieval_recall@5"] == pytest.approx(hits)


def test_zero_shot_classes_are_those_of_open_clip(dataset: ShardDataset) -> None:
    """Truth: open_clip's own zero-shot classifier on the same class names and templates."""
    task = load_task("zero_shot_openclipart")
    ours = load_library_model("open_clip:tiny-vit/random").model
    scored = evaluate(ours, task, facts=ModelFacts(name="tiny"), limit=PAIRS)
    root = Path(data_path("demo:test")).parent
    options = {"field": task.options["label_field"], "min_count": task.options["min_class_count"]}
    train = read_labelled(root / task.data["train"], **options)
    test = read_labelled(root / task.data["test"], classes=train.classes, **options)
    templates = (root / task.data["templates"]).read_text().splitlines() if "templates" in task.data else ["{c}"]

    torch.manual_seed(0)
    model, _, preprocess = open_clip.create_model_and_transforms("tiny-vit")
    model.eval()
    tokenizer = open_clip.get_tokenizer("tiny-vit")
    says = [lambda name, said=said: said.replace("{c}", name) for said in templates if said.strip()]
    with torch.no_grad():
        class_EC = open_clip.build_zero_shot_classifier(model, tokenizer, test.classes, says)
        pictures = [test.dataset.picture(place).permute(1, 2, 0).numpy() for place in test.places[:PAIRS]]
        image_NE = torch.stack([preprocess(Image.fromarray(pixels)) for pixels in pictures])
        likeliest_N = (model.encode_image(image_NE, normalize=True) @ class_EC).argmax(1)
    assert [sample["top"][0] for sample in scored.samples] == [test.classes[i] for i in likeliest_N.tolist()]


def test_weights_of_a_file(tmp_path: Path) -> None:
    torch.manual_seed(5)
    model = open_clip.create_model("tiny-vit")
    torch.save(model.state_dict(), tmp_path / "epoch_1.pt")
    loaded = load_library_model(f"open_clip:tiny-vit/{tmp_path}/epoch_1.pt")
    assert loaded.weights == f"{tmp_path}/epoch_1.pt"
    assert torch.equal(loaded.model.model.visual.proj, model.visual.proj)


def test_random_weights_are_said_and_always_the_same() -> None:
    first, second = (load_library_model(name) for name in ("open_clip:tiny-vit/", "open_clip:tiny-vit/random"))
    assert first.name == second.name == "open_clip:tiny-vit/random"
    assert torch.equal(first.model.model.visual.proj, second.model.model.visual.proj)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("open_clip:no-such/random", "open_clip has no no-such"),
        ("open_clip:tiny-vit/laion2b", "neither a file nor a tag"),
        ("open_clip:tiny-vit", "write open_clip:ARCHITECTURE/WEIGHTS"),
    ],
)
def test_what_is_not_there_is_named(name: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        load_library_model(name)


def test_weights_that_cannot_be_downloaded_are_refused_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unknown(*_: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", unknown)
    for variable in ("HF_ENDPOINT", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match="ViT-B-32/laion2b_s34b_b79k cannot be made"):
        load_library_model("open_clip:ViT-B-32/laion2b_s34b_b79k")
