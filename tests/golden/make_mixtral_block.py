"""Golden values of Hugging Face's Mixtral block: tests/golden/mixtral_block.safetensors.

The project does not depend on transformers. In a throw-away environment:

    pip install torch==2.14.1 safetensors transformers==5.24.0
    python tests/golden/make_mixtral_block.py

The block is transformers.models.mixtral.modeling_mixtral.MixtralSparseMoeBlock in fp32, with random weights, the
plain loop over experts ("eager"), and no jitter: eight experts, top-2, normalised, SwiGLU without biases.
"""

from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers.models.mixtral.modeling_mixtral import MixtralConfig, MixtralSparseMoeBlock

BATCH, LENGTH, DIM, HIDDEN, EXPERTS = 2, 17, 16, 24, 8


def main(out: Path) -> None:
    torch.manual_seed(0)
    config = MixtralConfig(
        hidden_size=DIM, intermediate_size=HIDDEN, num_local_experts=EXPERTS, num_experts_per_tok=2, hidden_act="silu"
    )
    config._experts_implementation = "eager"
    block = MixtralSparseMoeBlock(config).train()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    x = torch.randn(BATCH, LENGTH, DIM, requires_grad=True)
    y = block(x)
    pull = torch.randn_like(y)
    (y * pull).sum().backward()
    golden = {"x": x, "y": y, "pull": pull, "grad.x": x.grad}
    for name, parameter in block.named_parameters():
        golden |= {f"weight.{name}": parameter, f"grad.{name}": parameter.grad}
    golden = {name: value.detach().clone().contiguous() for name, value in golden.items()}
    save_file(golden, out, metadata={"transformers": transformers.__version__, "torch": torch.__version__})


if __name__ == "__main__":
    main(Path(__file__).with_name("mixtral_block.safetensors"))
