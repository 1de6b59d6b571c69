"""The FFNs in a model's weights, by block."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.models.builder import build_ffn
from mm_mhmoe.nn import MoE, MultiHeadMoE

Weights = dict[str, Tensor]
# An FFN by its block's index, or by (index, "image", "text" or "pair") where a block of a multiway encoder has several.
Place = int | tuple[int, str]
WAYS = ("image", "text", "pair")

# A model of models/tasks has "encoder." in front, an encoder alone has not.
_FFN = re.compile(r"((?:encoder\.)?blocks\.(\d+)\.ffn\.(?:(image|text|pair)\.)?)(.+)")


def layer_of(place: Place) -> int:
    """The index of the block that an FFN lies in."""
    return place if isinstance(place, int) else place[0]


def convert_ffns(
    weights: Mapping[str, Tensor], layers: Iterable[int], convert: Callable[[Place, Weights], Mapping[str, Tensor]]
) -> Weights:
    """A copy of the weights in which `convert(place, its weights)` stands for every FFN of the blocks named.

    Raises:
        ValueError: a block has no FFN among the weights.
    """
    wanted = list(layers)
    found: dict[Place, Weights] = {}
    prefixes: dict[Place, str] = {}
    kept: Weights = {}
    for name, value in weights.items():
        match = _FFN.fullmatch(name)
        if match is not None and int(match[2]) in wanted:
            place: Place = (int(match[2]), match[3]) if match[3] else int(match[2])
            prefixes[place] = match[1]
            found.setdefault(place, {})[match[4]] = value
        else:
            kept[name] = value.clone()
    for layer in set(wanted) - {layer_of(place) for place in found}:
        raise ValueError(f"the weights hold no FFN of block {layer}; they do not fit the encoder's configuration")
    for place in sorted(found, key=lambda place: wanted.index(layer_of(place))):
        kept |= {prefixes[place] + name: value.contiguous() for name, value in convert(place, found[place]).items()}
    return kept


def built_ffn(config: EncoderConfig, layer: int, weights: Mapping[str, Tensor]) -> nn.Module:
    """The FFN of a block, with these weights, in evaluation mode and in their precision.

    Raises:
        ValueError: they are not the weights of that FFN.
    """
    with torch.random.fork_rng(devices=[]):
        module = build_ffn(config, layer)
    module.to(next(iter(weights.values())).dtype)
    try:
        module.load_state_dict(dict(weights))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"the weights of block {layer} do not fit the encoder's configuration: {reason}") from error
    return module.eval()


def moe_of(ffn: nn.Module) -> MoE:
    """The plain sparse layer in a sparse FFN."""
    moe = ffn.moe if isinstance(ffn, MultiHeadMoE) else ffn
    assert isinstance(moe, MoE)
    return moe


def sparse_layers(config: EncoderConfig) -> list[int]:
    return [layer for layer in range(config.depth) if config.is_sparse(layer)]
