"""Truth: torchscale's BEiT3 with random weights, on pictures, texts and pairs, forward and backward.

The golden values were made by tests/golden/make_torchscale_beit3.py.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mm_mhmoe.batch import Images, ImageTextBatch, Texts
from mm_mhmoe.models.builder import build_encoder
from mm_mhmoe.models.importing.beit3 import beit3_config, beit3_encoder

GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "torchscale_beit3.safetensors")
CLOSE = {"rtol": 0.0, "atol": 1e-5}


def named(kind: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(f"{kind}."): v for k, v in GOLDEN.items() if k.startswith(f"{kind}.")}


@pytest.fixture
def encoder():
    config = beit3_config(named("weight"), "golden", num_heads=2, max_length=7)
    made = build_encoder(config).eval()
    made.load_state_dict(beit3_encoder(named("weight"), config, "golden"))
    return made


def streams() -> dict[str, ImageTextBatch]:
    texts = Texts(ids_BL=GOLDEN["ids"], valid_BL=~GOLDEN["padding"])
    hidden = Images(pixels_BCHW=GOLDEN["pixels"], masked_BN=GOLDEN["masked"])
    return {
        "image": ImageTextBatch(images=hidden),
        "text": ImageTextBatch(texts=texts),
        "pair": ImageTextBatch(images=Images(pixels_BCHW=GOLDEN["pixels"]), texts=texts),
    }


def compared(part, wanted_BLD: torch.Tensor, pull_BLD: torch.Tensor) -> torch.Tensor:
    """Checks the states of real tokens; returns what torchscale's gradients are those of."""
    cut, total = 0, torch.zeros(())
    if part.image_BND is not None:
        cut = part.image_BND.shape[1]
        torch.testing.assert_close(part.image_BND, wanted_BLD[:, :cut], **CLOSE)
        total = total + (part.image_BND * pull_BLD[:, :cut]).sum()
    if part.text_BLD is not None:
        valid = ~GOLDEN["padding"]
        torch.testing.assert_close(part.text_BLD[valid], wanted_BLD[:, cut:][valid], **CLOSE)
        total = total + (part.text_BLD * pull_BLD[:, cut:]).sum()
    return total


@pytest.mark.parametrize("case", ["image", "text", "pair"])
def test_states_of_one_stream(encoder, case) -> None:
    (part,) = encoder(streams()[case]).streams
    compared(part, GOLDEN[f"states.{case}"], GOLDEN[f"pull.{case}"])


def test_states_and_gradients_of_three_streams_in_one_call(encoder) -> None:
    cases = streams()
    output = encoder(*cases.values())
    total = torch.zeros(())
    for case, part in zip(cases, output.streams, strict=True):
        total = total + compared(part, GOLDEN[f"states.{case}"], GOLDEN[f"pull.{case}"])
    total.backward()
    wanted = named("grad")
    last = encoder.blocks[1]
    for name, found in (
        ("vision_embed.mask_token", encoder.image.mask_token_D.grad),
        ("text_embed.weight", encoder.text.tokens.weight.grad),
        ("encoder.embed_positions.A.weight", encoder.image.positions_ND.grad),
        ("encoder.layers.0.self_attn.q_proj.A.weight", encoder.blocks[0].attention.qkv.image.weight.grad[:16]),
        ("encoder.layers.1.self_attn.inner_attn_ln.B.weight", last.attention.norm.text.weight.grad),
        ("encoder.layers.1.ffn.B.fc1.weight", last.ffn.text.fc1.weight.grad),
    ):
        theirs = wanted[f"beit3.{name}"]
        if "embed_positions" in name:  # its first two rows belong to no position
            assert not theirs[:2].any()
            theirs = theirs[2:]
        assert theirs.any()
        torch.testing.assert_close(found, theirs.view_as(found), rtol=1e-4, atol=1e-4)


def test_the_comparison_would_see_a_mix_up(encoder) -> None:
    """Pictures and texts under each other's weights are far from torchscale's states."""
    weights = encoder.state_dict()
    swap = {".image.": ".text.", ".text.": ".image."}
    blocks = [k for k in weights if k.startswith("blocks.1.attention.qkv.")]
    encoder.load_state_dict(
        {
            k: weights[next(k.replace(a, b) for a, b in swap.items() if a in k)] if k in blocks else v
            for k, v in weights.items()
        }
    )
    (part,) = encoder(streams()["pair"]).streams
    assert (part.image_BND - GOLDEN["states.pair"][:, :5]).abs().max() > 0.1
