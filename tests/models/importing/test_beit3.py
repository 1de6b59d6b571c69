"""Truth: shapes of the golden model (tests/parity compares its states); messages that name a weight."""

import re

import pytest
import torch

from mm_mhmoe.models.importing import beit3_config, beit3_model
from mm_mhmoe.models.importing.beit3 import beit3_encoder
from mm_mhmoe.models.tasks import PretrainModel, RetrievalModel


def config_of(weights):
    return beit3_config(weights, "x.pth", num_heads=2, max_length=7)


def test_the_configuration_is_read_from_shapes(released) -> None:
    found = config_of(released)
    assert (found.dim, found.depth, found.ffn_dim, found.num_heads) == (16, 2, 32, 2)
    assert (found.vision.image_size, found.vision.patch_size) == (8, 4)
    assert (found.text.vocab_size, found.text.max_length, found.text.positions) == (24, 7, 10)
    assert found.multiway and found.sub_ln and found.ffn == "dense"
    assert found.vision.pixel_mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(("dim", "heads"), [(768, 12), (1024, 16)])
def test_published_widths_have_their_heads(released, dim: int, heads: int) -> None:
    wide = {"beit3.vision_embed.proj.weight": torch.empty(dim, 3, 4, 4, device="meta")}
    assert beit3_config(released | wide, "x.pth", max_length=7).num_heads == heads


def test_another_width_needs_its_heads(released) -> None:
    with pytest.raises(ValueError, match=r"16 wide.*--num_heads"):
        beit3_config(released, "x.pth")


@pytest.mark.parametrize(
    ("name", "shape", "wanted"),
    [
        ("encoder.layers.1.self_attn.k_proj.B.weight", (16, 15), (16, 16)),
        ("encoder.layers.0.ffn.A.ffn_layernorm.weight", (16,), (32,)),
        ("encoder.layer_norm.A.bias", (2, 16), (16,)),
        ("vision_embed.cls_token", (16,), (1, 1, 16)),
        ("encoder.embed_positions.B.weight", (12, 8), (12, 16)),
    ],
)
def test_a_wrong_shape_is_refused_by_name_with_both_shapes(released, name, shape, wanted) -> None:
    broken = released | {f"beit3.{name}": torch.zeros(shape)}
    told = f"x.pth: beit3.{name} has shape {shape} instead of {wanted}"
    with pytest.raises(ValueError, match=re.escape(told)):
        beit3_encoder(broken, config_of(broken), "x.pth")


def test_what_is_absent_or_unknown_is_refused_by_name(released) -> None:
    name = "beit3.encoder.layers.1.ffn.B.fc2.bias"
    config = config_of(released)
    with pytest.raises(ValueError, match=re.escape(f"x.pth has no {name} of shape (16,)")):
        beit3_encoder({k: v for k, v in released.items() if k != name}, config, "x.pth")
    with pytest.raises(ValueError, match=r"x.pth has beit3.encoder.relative_position"):
        beit3_encoder(released | {"beit3.encoder.relative_position": torch.zeros(1)}, config, "x.pth")
    with pytest.raises(ValueError, match=r"x.pth has no beit3.vision_embed.proj.weight"):
        config_of({"head.weight": torch.zeros(3)})
    crooked = released | {"beit3.encoder.embed_positions.A.weight": torch.zeros(8, 16)}
    with pytest.raises(ValueError, match=r"embed_positions.A.weight has 8 rows, which is no square of patches and 3"):
        config_of(crooked)


def test_heads_decide_what_it_becomes(released) -> None:
    config = config_of(released)
    head = {"mlm_head.weight": torch.randn(24, 16), "mlm_head.bias": torch.randn(24)}
    model = beit3_model(released | head, config, "x.pth", num_codes=6)
    assert isinstance(model, PretrainModel) and model.num_codes == 6 and not model.training
    assert torch.equal(model.text_head.weight, head["mlm_head.weight"])
    assert torch.equal(model.encoder.text.tokens.weight, released["beit3.text_embed.weight"])
    heads = {"vision_head.weight": torch.randn(16, 16), "language_head.weight": torch.randn(16, 16)}
    tuned = beit3_model(released | heads | {"logit_scale": torch.tensor(3.0)}, config, "x.pth", num_codes=6)
    assert isinstance(tuned, RetrievalModel)
    assert torch.equal(tuned.head.text_proj.weight, heads["language_head.weight"])
    assert torch.equal(tuned.head.image_proj.weight, heads["vision_head.weight"])
    assert tuned.head.log_scale == 3.0
