"""Truth: timm's own models with random weights."""

import pytest
import timm
import torch

from mm_mhmoe.batch import Images, ImageTextBatch
from mm_mhmoe.config import TextConfig
from mm_mhmoe.models.importing import vit_config, vit_model

TEXT = TextConfig(vocab_size=40, max_length=8)
SIZE = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}


def make(name: str = "vit_tiny_patch16_224", **options):
    torch.manual_seed(0)
    vit = timm.create_model(name, **{**SIZE, **options}).eval()
    with torch.no_grad():  # biases and LayerNorms too: at their initial zeros and ones a mix-up would not show
        for value in vit.parameters():
            value += 0.2 * torch.randn_like(value)
    return vit


@pytest.mark.parametrize("options", [{}, {"mlp_ratio": 2, "patch_size": 16}])
def test_states_are_timms(options) -> None:
    vit = make(**options)
    config = vit_config(vit, "vit", TEXT)
    model = vit_model(vit.state_dict(), config, "vit", num_codes=6)
    pixels = torch.rand(2, 3, 32, 32) * 2 - 1  # the model's mean and deviation are .5
    with torch.no_grad():
        (part,) = model.encoder(ImageTextBatch(images=Images(pixels_BCHW=pixels))).streams
        torch.testing.assert_close(part.image_BND, vit.forward_features(pixels), rtol=0.0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("vit_tiny_patch16_224", {"init_values": 0.1}, "blocks.0.ls1.gamma"),
        ("vit_tiny_patch16_224", {"qk_norm": True}, "blocks.0.attn.k_norm"),
        ("vit_tiny_patch16_224", {"reg_tokens": 2}, "several prefix tokens"),
        ("vit_tiny_patch16_224", {"pre_norm": True}, "LayerNorm before the blocks"),
        ("vit_tiny_patch16_224", {"act_layer": "gelu_tanh"}, "another activation than GELU"),
        ("vit_tiny_patch16_224", {"global_pool": "avg"}, "no LayerNorm after the blocks"),
        ("vit_tiny_patch16_224", {"class_token": False, "global_pool": "avg", "final_norm": True}, "prefix tokens"),
    ],
)
def test_what_this_encoder_has_not_is_refused_by_name(name, options, told) -> None:
    vit = make(name, **options)
    with pytest.raises(ValueError, match=told):
        vit_model(vit.state_dict(), vit_config(vit, name, TEXT), name, num_codes=6)


def test_weights_of_another_shape_are_refused_by_name() -> None:
    vit = make()
    weights = vit.state_dict() | {"blocks.1.mlp.fc2.weight": torch.zeros(24, 5)}
    told = r"file: blocks.1.mlp.fc2.weight has shape \(24, 5\) instead of \(24, 96\)"
    with pytest.raises(ValueError, match=told):
        vit_model(weights, vit_config(vit, "vit", TEXT), "file", num_codes=6)
