"""Golden values of torchscale's BEiT3 writing captions: tests/golden/torchscale_captioning.safetensors.

The model and the inputs are those of make_torchscale_beit3.py, whose environment this needs too:

    python tests/golden/make_torchscale_captioning.py

Attention is masked, and a text is written, as unilm's beit3 (BEiT3ForCaptioning, CaptioningHandler) does it: each step
encodes the last token and a mask token, whose key and value are dropped afterwards.
"""

import importlib
import sys
import types
from pathlib import Path

import torch
from make_torchscale_beit3 import SIZE
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
MASK = 23


def causal_mask(image: int, text: int) -> torch.Tensor:
    """1 where a token (row) does not see another."""
    hidden = torch.ones(image + text, image + text)
    hidden[:, :image] = 0
    hidden[image:, image:] = 1 - torch.tril(torch.ones(text, text))
    return hidden


@torch.no_grad()
def main() -> None:
    fairscale = types.ModuleType("fairscale.nn")
    fairscale.checkpoint_wrapper = fairscale.wrap = None
    sys.modules |= {"fairscale": types.ModuleType("fairscale"), "fairscale.nn": fairscale}
    config = importlib.import_module("torchscale.architecture.config")
    beit3 = importlib.import_module("torchscale.model.BEiT3")
    given = load_file(HERE / "torchscale_beit3.safetensors")
    model = beit3.BEiT3(config.EncoderConfig(multiway=True, subln=True, no_output_layer=True, **SIZE)).eval()
    prefix = "weight.beit3."
    model.load_state_dict({k.removeprefix(prefix): v for k, v in given.items() if k.startswith(prefix)})
    pixels, ids = given["pixels"], given["ids"]
    rows, length = ids.shape
    image = model.vision_embed.num_position_embeddings()

    whole = model(textual_tokens=ids, visual_tokens=pixels, attn_mask=causal_mask(image, length))["encoder_out"]
    kept = {layer: {} for layer in range(model.encoder.num_layers)}
    asked = []
    for step in range(length):
        texts = torch.cat([ids[:, step : step + 1], torch.full((rows, 1), MASK)], dim=1)
        mask = causal_mask(image, step + 2)
        if step == 0:
            output = model(textual_tokens=texts, visual_tokens=pixels, attn_mask=mask, incremental_state=kept)
        else:
            places = torch.arange(step + 2, step + 4).unsqueeze(0)  # the first position is number 2
            output = model(textual_tokens=texts, attn_mask=mask[-2:], incremental_state=kept, positions=places)
        asked.append(output["encoder_out"][:, -1])
        for layer in kept.values():
            for name, value in layer.items():
                layer[name] = value[:, :, :-1]
    golden = {"whole": whole[:, image:], "asked": torch.stack(asked, dim=1)}
    save_file({k: v.contiguous() for k, v in golden.items()}, HERE / "torchscale_captioning.safetensors")


if __name__ == "__main__":
    main()
