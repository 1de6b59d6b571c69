"""Golden values of torchscale's BEiT3: tests/golden/torchscale_beit3.safetensors.

torchscale pins an old timm, so it must not share an environment with this project. In a throw-away one:

    pip install torch==2.14.1 safetensors numpy timm
    pip install --no-deps torchscale==0.3.0
    python tests/golden/make_torchscale_beit3.py

The weights are random, LayerNorms and biases too. Names of weights are those of released checkpoints ("beit3." in
front). Padded texts lie among the texts and pairs. The gradients are those of sum(output * pull) over all three inputs.
"""

import importlib
import sys
import types
from pathlib import Path

import torch
from safetensors.torch import save_file

SIZE = {
    "encoder_embed_dim": 16,
    "encoder_attention_heads": 2,
    "encoder_ffn_embed_dim": 32,
    "encoder_layers": 2,
    "img_size": 8,
    "patch_size": 4,
    "vocab_size": 24,
    "max_source_positions": 12,
}
ROWS, LENGTH = 3, 7
WITH_GRADIENTS = (
    "vision_embed.mask_token",
    "text_embed.weight",
    "encoder.embed_positions.A.weight",
    "encoder.layers.0.self_attn.q_proj.A.weight",
    "encoder.layers.1.self_attn.inner_attn_ln.B.weight",
    "encoder.layers.1.ffn.B.fc1.weight",
)


def main(out: Path) -> None:
    # Imported for sharding and checkpointing, which nothing here uses.
    fairscale = types.ModuleType("fairscale.nn")
    fairscale.checkpoint_wrapper = fairscale.wrap = None
    sys.modules |= {"fairscale": types.ModuleType("fairscale"), "fairscale.nn": fairscale}
    config = importlib.import_module("torchscale.architecture.config")
    beit3 = importlib.import_module("torchscale.model.BEiT3")
    torch.manual_seed(0)
    model = beit3.BEiT3(config.EncoderConfig(multiway=True, subln=True, no_output_layer=True, **SIZE)).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(torch.randn_like(value) * 0.3 + ("norm.A.weight" in name or "norm.B.weight" in name))

    pixels = torch.rand(ROWS, 3, 8, 8) * 2 - 1
    ids = torch.randint(5, SIZE["vocab_size"], (ROWS, LENGTH))
    padding = torch.arange(LENGTH) >= torch.tensor([[7], [4], [6]])
    masked = torch.rand(ROWS, 4) < 0.4
    cases = {
        "image": {"visual_tokens": pixels, "vision_masked_position": masked},
        "text": {"textual_tokens": ids, "text_padding_position": padding},
        "pair": {"visual_tokens": pixels, "textual_tokens": ids, "text_padding_position": padding},
    }
    golden = {f"weight.beit3.{name}": value.detach() for name, value in model.state_dict().items()}
    golden |= {"pixels": pixels, "ids": ids, "padding": padding, "masked": masked}
    total = 0.0
    for case, inputs in cases.items():
        states = model(**inputs)["encoder_out"]
        pull = torch.randn_like(states)
        if case != "image":
            pull[:, -LENGTH:][padding] = 0.0  # what stands at padding is nobody's business
        golden |= {f"states.{case}": states.detach(), f"pull.{case}": pull}
        total = total + (states * pull).sum()
    total.backward()
    parameters = dict(model.named_parameters())
    golden |= {f"grad.beit3.{name}": parameters[name].grad for name in WITH_GRADIENTS}
    save_file({k: v.contiguous() for k, v in golden.items()}, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("torchscale_beit3.safetensors"))
