"""Truth: torchscale's BEiT3 under BEiT-3's mask for captioning, and with its own cache, asked token by token.

The golden values were made by tests/golden/make_torchscale_captioning.py, of the model in torchscale_beit3.safetensors.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file

from mm_mhmoe.batch import Images, ImageTextBatch, Texts
from mm_mhmoe.models.builder import build_encoder
from mm_mhmoe.models.importing.beit3 import beit3_config, beit3_encoder

FOLDER = Path(__file__).parents[1] / "golden"
GIVEN, GOLDEN = (
    load_file(FOLDER / "torchscale_beit3.safetensors"),
    load_file(FOLDER / "torchscale_captioning.safetensors"),
)
IMAGES = Images(pixels_BCHW=GIVEN["pixels"])
CLOSE = {"rtol": 0.0, "atol": 1e-5}
MASK = 23


def encoder():
    weights = {k.removeprefix("weight."): v for k, v in GIVEN.items() if k.startswith("weight.")}
    config = beit3_config(weights, "golden", num_heads=2, max_length=8)
    made = build_encoder(config).eval()
    made.load_state_dict(beit3_encoder(weights, config, "golden"))
    return made


def stream(ids, images=None):
    texts = Texts(ids_BL=ids, valid_BL=torch.ones_like(ids, dtype=torch.bool))
    return ImageTextBatch(images=images, texts=texts, causal_text=True)


@torch.no_grad()
def test_states_under_the_mask_for_captioning() -> None:
    states = encoder()(stream(GIVEN["ids"], IMAGES)).streams[0].text_BLD
    torch.testing.assert_close(states, GOLDEN["whole"], **CLOSE)


@torch.no_grad()
def test_mask_tokens_that_ask_for_the_next_token() -> None:
    made, cache, asked = encoder(), None, []
    for step in range(GIVEN["ids"].shape[1]):
        ids = GIVEN["ids"][:, step : step + 1]
        ids = torch.cat([ids, torch.full_like(ids, MASK)], dim=1)
        output, cache = made.decode(stream(ids, None if cache else IMAGES), cache)
        cache = cache.without_last()
        asked.append(output.streams[0].text_BLD[:, -1])
    torch.testing.assert_close(torch.stack(asked, dim=1), GOLDEN["asked"], **CLOSE)
