"""Minuscule models in float64, and what they compute."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mm_mhmoe.config import EncoderConfig, MoEConfig
from mm_mhmoe.models.builder import build_encoder

ROUTERS = {
    "top_k": {"router": "top_k"},
    "top_k, probabilities": {"router": "top_k", "normalize_weights": False},
    "xmoe": {"router": "xmoe"},
    "xmoe, sigmoid": {"router": "xmoe", "xmoe_gate": "sigmoid"},
    "xmoe_released": {"router": "xmoe_released"},
    "sigmoid_bias": {"router": "sigmoid_bias"},
    "expert_choice": {"router": "expert_choice"},
}


def randomize(model: nn.Module, seed: int) -> nn.Module:
    """Biases and LayerNorms too: at their initial zeros and ones a mix-up would not show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            value += 0.1 * torch.randn(value.shape, generator=generator, dtype=value.dtype)
    return model


@pytest.fixture(scope="session")
def weights() -> Callable[..., dict[str, Tensor]]:
    """Random weights of an encoder of that configuration, in float64."""

    def make(config: EncoderConfig, seed: int = 0) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        return randomize(build_encoder(config).double(), seed).state_dict()

    return make


@pytest.fixture(scope="session")
def states(stream) -> Callable[..., Tensor]:
    """Last states of real tokens of two streams under these weights."""

    def run(config: EncoderConfig, weights: dict[str, Tensor]) -> Tensor:
        encoder = build_encoder(config).double().eval()
        encoder.load_state_dict(weights)
        with torch.no_grad():
            output = encoder(stream("pairs", dtype=torch.float64), stream("images", dtype=torch.float64, seed=1))
        rows = [s for part in output.streams for s in (part.image_BND, part.text_BLD) if s is not None]
        texts = stream("pairs").texts
        return torch.cat([rows[0].flatten(0, 1), rows[1][texts.valid_BL], rows[2].flatten(0, 1)])

    return run


@pytest.fixture(scope="session")
def copies(config) -> Callable[..., EncoderConfig]:
    """A configuration with experts as wide as the dense FFN."""

    def make(ffn: str = "moe", **moe: object) -> EncoderConfig:
        values = {"num_experts": 4, "top_k": 2, "every": 2, "parity": "none", "hidden_dim": 128, **moe}
        return config(ffn=ffn, moe=MoEConfig(**values))

    return make


@pytest.fixture(params=ROUTERS)
def router(request) -> dict[str, object]:
    """The options of MoEConfig that choose a router."""
    return ROUTERS[request.param]
