"""Truth: the released code of BEiT-v2's visual tokenizer and of its quantizer, with random weights at a small size.

The golden values were made by tests/golden/make_beit2_vqkd.py, which names the code and what was left out of it.
"""

import argparse
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mm_mhmoe.commands.import_vqkd import vqkd
from mm_mhmoe.models.checkpoints import load
from mm_mhmoe.models.vector_quantizer import VectorQuantizer
from mm_mhmoe.models.visual_tokenizer import VisualTokenizer
from mm_mhmoe.models.visual_tokenizer_import import imported_weights

GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "beit2_vqkd.safetensors")
WEIGHTS = {name.removeprefix("model."): v for name, v in GOLDEN.items() if name.startswith("model.")}
OPTIONS = {"num_heads": 2, "teacher": "timm:test_vit/"}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> VisualTokenizer:
    place = tmp_path_factory.mktemp("vqkd")
    save_file(WEIGHTS, place / "theirs.safetensors")
    vqkd(place / "theirs.safetensors", place / "ours", **OPTIONS)
    return load(place / "ours")


def test_the_same_codes_from_uint8_and_from_floats(model) -> None:
    assert torch.equal(model.codes(GOLDEN["pixels"]), GOLDEN["codes"])
    assert torch.equal(model.codes(GOLDEN["pixels"].float() / 127.5 - 1.0), GOLDEN["codes"])
    assert len(GOLDEN["codes"].unique()) > 10


def test_the_same_features_are_decoded(model) -> None:
    with torch.no_grad():
        decoded = model.decode(model.quantizer.codebook_KC[GOLDEN["codes"]])
    torch.testing.assert_close(decoded, GOLDEN["decoded"], rtol=1e-5, atol=1e-5)


def test_the_same_loss_and_gradients(model) -> None:
    model.zero_grad()
    loss = model.loss(GOLDEN["pixels"], GOLDEN["target"])
    loss.total.backward()
    torch.testing.assert_close(loss.total.detach(), GOLDEN["loss"])
    torch.testing.assert_close(loss.distance.detach(), GOLDEN["distance"])
    torch.testing.assert_close(loss.commitment.detach(), GOLDEN["commitment"])
    theirs = {name.removeprefix("grad."): value for name, value in GOLDEN.items() if name.startswith("grad.")}
    # The same renaming: a gradient is a weight's shape. The codebook is there because renaming asks for it.
    wanted = imported_weights({**theirs, "quantize.embedding.weight": GOLDEN["started"]})
    assert len(wanted) == len(theirs) + 1 and all(value.any() for value in wanted.values())
    for name, parameter in model.named_parameters():
        if name in wanted:
            torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-4, atol=1e-6)


def test_k_means_start_and_moving_averages_are_theirs() -> None:
    quantizer = VectorQuantizer(24, 8, decay=0.9, revive_below=0.0)
    torch.manual_seed(3)
    quantizer.start(GOLDEN["vectors.0"])
    torch.testing.assert_close(quantizer.codebook_KC, GOLDEN["started"], rtol=1e-5, atol=1e-6)
    for step in range(3):
        codes = quantizer(GOLDEN[f"vectors.{step}"]).codes_N
        assert torch.equal(codes, GOLDEN[f"codes.{step}"])
        quantizer.update(GOLDEN[f"vectors.{step}"], codes)
        torch.testing.assert_close(quantizer.codebook_KC, GOLDEN[f"codebook.{step}"], rtol=1e-5, atol=1e-6)


def test_a_checkpoint_as_they_save_it(tmp_path, model) -> None:
    """Weights under `model`, the teacher's among them, beside an optimiser and the command line."""
    teacher = {"teacher_model.conv.weight": torch.ones(2), "scaling_layer.shift": torch.ones(3)}
    content = {"model": {**WEIGHTS, **teacher}, "epoch": 3, "args": argparse.Namespace(lr=1e-3, model="x")}
    torch.save(content, tmp_path / "checkpoint.pth")
    vqkd(tmp_path / "checkpoint.pth", tmp_path / "ours", **OPTIONS)
    found = load(tmp_path / "ours").state_dict()
    assert all(torch.equal(value, found[name]) for name, value in model.state_dict().items())


class Harmful:
    def __reduce__(self):
        return Path.touch, (Path("harmed"),)


def test_what_cannot_be_imported_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Harmful()}, tmp_path / "code.pth")
    with pytest.raises(ValueError, match="cannot be read"):
        vqkd(tmp_path / "code.pth", tmp_path / "out")
    assert not (tmp_path / "harmed").exists()
    with pytest.raises(ValueError, match="is no file"):
        vqkd(tmp_path / "none.pth", tmp_path / "out")

    def refused(weights, **options) -> str:
        save_file(weights, tmp_path / "some.safetensors")
        with pytest.raises(ValueError) as error:
            vqkd(tmp_path / "some.safetensors", tmp_path / "out", **{**OPTIONS, **options})
        return str(error.value)

    without = {name: value for name, value in WEIGHTS.items() if name != "decoder.fc_norm.bias"}
    assert "to_teacher.0.bias is missing" in refused(without)
    table = {"encoder.blocks.0.attn.relative_position_bias_table": torch.zeros(3)}
    assert "relative position bias" in refused({**WEIGHTS, **table})
    assert "extra is left over" in refused({**WEIGHTS, "extra": torch.zeros(1)})
    assert "no checkpoint of BEiT-v2" in refused({"weight": torch.zeros(1)})
    assert "--num_heads" in refused(WEIGHTS, num_heads=None)
    assert "--teacher" in refused(WEIGHTS, teacher=None)
    assert not (tmp_path / "out").exists()
