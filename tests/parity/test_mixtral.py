"""Truth: the Mixtral block of transformers 5.24.0: softmax top-2, normalised, SwiGLU experts without biases.

The golden values were made by tests/golden/make_mixtral_block.py.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mm_mhmoe.nn import Experts, MoE, TopKRouter

GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "mixtral_block.safetensors")
DIM, HIDDEN, EXPERTS = 16, 24, 8


def in_our_layout(kind):
    """Their gate is SiLU's side, which is the first half of our first matrix too; our matrices are transposed."""
    return {
        "router.gate.weight": GOLDEN[f"{kind}.gate.weight"],
        "experts.w1_EdF": GOLDEN[f"{kind}.experts.gate_up_proj"].transpose(1, 2),
        "experts.w2_EFd": GOLDEN[f"{kind}.experts.down_proj"].transpose(1, 2),
    }


@pytest.mark.parametrize("keep", ["all", "hidden", "tokens"])
def test_the_same_output_and_gradients(keep):
    experts = Experts(EXPERTS, DIM, HIDDEN, activation="swiglu", bias=False, keep=keep)
    moe = MoE(TopKRouter(DIM, EXPERTS, top_k=2), experts)
    moe.load_state_dict(in_our_layout("weight"))
    x = GOLDEN["x"].flatten(0, 1).requires_grad_()
    y, routing = moe(x)
    torch.testing.assert_close(y, GOLDEN["y"].flatten(0, 1), rtol=1e-5, atol=1e-5)
    assert routing.experts_SK.unique().numel() == EXPERTS
    y.backward(GOLDEN["pull"].flatten(0, 1))
    torch.testing.assert_close(x.grad, GOLDEN["grad.x"].flatten(0, 1), rtol=1e-5, atol=1e-5)
    found = {name: parameter.grad for name, parameter in moe.named_parameters()}
    torch.testing.assert_close(found, in_our_layout("grad"), rtol=1e-5, atol=5e-5)
