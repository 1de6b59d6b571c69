"""Against what timm computes by itself from the PIL picture."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import timm
import torch
from mm_mhmoe_data.ordered import iterate_pairs
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_eval.libraries import TimmModel, load_library_model, pair_flops
from mm_mhmoe_eval.protocol import Classifies, EmbedsPairs, GivesFeatures, PreparesInputs
from PIL import Image
from safetensors.torch import save_file

from mm_mhmoe.commands.sources import data_path

PICTURES = 6


@pytest.fixture(scope="module")
def dataset() -> ShardDataset:
    return ShardDataset(data_path("demo:test"))


@pytest.mark.parametrize("architecture", ["test_vit", "test_resnet"])
def test_logits_and_features_are_those_of_timm(architecture: str, dataset: ShardDataset) -> None:
    ours = load_library_model(f"timm:{architecture}/random").model
    assert isinstance(ours, TimmModel) and isinstance(ours, PreparesInputs)
    assert isinstance(ours, Classifies) and isinstance(ours, GivesFeatures) and not isinstance(ours, EmbedsPairs)
    inputs = {"tokenizer": ours.tokenizer, "vision": ours.vision, "text": ours.text, "transform": ours.transform}
    (batch,) = iterate_pairs(dataset, **inputs, batch_size=PICTURES, stream="images", chosen=range(PICTURES))
    assert batch.images is not None
    logits_BC, features_BF = ours.class_logits(batch.images), ours.image_features(batch.images)

    torch.manual_seed(0)
    model = timm.create_model(architecture).eval()
    prepare = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model), is_training=False)
    pictures = [Image.open(io.BytesIO(dataset.image_bytes(i))).convert("RGBA") for i in range(PICTURES)]
    white = [Image.alpha_composite(Image.new("RGBA", p.size, "white"), p).convert("RGB") for p in pictures]
    with torch.no_grad():
        pixels_BCHW = torch.stack([prepare(picture) for picture in white])
        torch.testing.assert_close(logits_BC, model(pixels_BCHW), atol=1e-4, rtol=1e-4)
        model.reset_classifier(0)
        torch.testing.assert_close(features_BF, model(pixels_BCHW), atol=1e-4, rtol=1e-4)


def test_classes_are_imagenets_as_the_shards_name_them() -> None:
    assert load_library_model("timm:test_vit/random").model.classes[:2] == ("tench", "goldfish")


def test_flops_are_those_that_timm_publishes() -> None:
    """resnet18 at 224 px: 1.82 GMACs (timm's results/benchmark files, and the literature)."""
    flops = pair_flops(load_library_model("timm:resnet18/random").model)
    assert flops == pytest.approx(2 * 1.82e9, rel=0.01)


def test_weights_of_a_file(tmp_path: Path) -> None:
    torch.manual_seed(7)
    model = timm.create_model("test_vit")
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    loaded = load_library_model(f"timm:test_vit/{tmp_path}/w.safetensors").model
    assert torch.equal(loaded.model.head.weight, model.head.weight)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"is no \.safetensors file"):
        load_library_model(f"timm:test_vit/{tmp_path}/w.pth")


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="timm:no_such/random cannot be made"):
        load_library_model("timm:no_such/random")


def test_it_is_probed(call, tmp_path: Path) -> None:
    """k-NN and linear probe of random features, from the command to the record."""
    words = ["--tasks", "[probe_openclipart]", "--limit", 60, "--output_path", tmp_path, "--workers", 0]
    code, out, err = call("eval", "--model", "timm:test_vit/random", *words)
    assert code == 0, err
    assert "the weights are random" in out and (tmp_path / "probe_openclipart.json").is_file()
