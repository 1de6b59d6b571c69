"""Where the (sub-)tokens of an encoder go.

Shapes: T tokens, S sub-tokens, E experts, K top-k, H sub-tokens a token.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mm_mhmoe.models.encoder import EncoderOutput, LayerRouting
from mm_mhmoe.nn.routing import choice_counts


@dataclass(frozen=True, kw_only=True)
class LayerLoad:
    """Assignments to each expert of one sparse layer, counted over a set of samples (image tokens and text tokens)."""

    layer: int
    image_E: Tensor
    text_E: Tensor

    @property
    def all_E(self) -> Tensor:
        return self.image_E + self.text_E


def layer_loads(outputs: Iterable[EncoderOutput]) -> list[LayerLoad]:
    """Counts over all outputs; padding and dropped choices are left out. Empty for a dense encoder."""
    image: dict[int, Tensor] = {}
    text: dict[int, Tensor] = {}
    for output in outputs:
        for layer, routing in output.routing:
            heads = len(routing.experts_SK) // len(output.valid_T)
            for counts, chosen_T in ((image, ~output.is_text_T), (text, output.is_text_T)):
                of_S = (chosen_T & output.valid_T).repeat_interleave(heads)
                counts[layer] = counts.get(layer, 0) + choice_counts(routing.target_SK[of_S], routing.num_experts)
    return [LayerLoad(layer=layer, image_E=image[layer], text_E=text[layer]) for layer in sorted(image)]


def activated_share(loads: Sequence[LayerLoad], threshold: float) -> float:
    """Share of the experts with more than `threshold` times the uniform load (arXiv 2404.15045 names no threshold)."""
    used = torch.cat([load.all_E / load.all_E.sum() * len(load.all_E) > threshold for load in loads])
    return used.float().mean().item()


def first_choices(output: EncoderOutput, layer: LayerRouting) -> Tensor:
    """The expert with the largest weight for every sub-token: (T, H), in the order of the flat tokens.

    A choice that was dropped, or not taken, still counts: it is what the sub-token looks like to the router.
    """
    experts_SK, weights_SK = layer.routing.experts_SK, layer.routing.weights_SK
    best_S = experts_SK.gather(1, weights_SK.argmax(dim=1, keepdim=True)).squeeze(1)
    return best_S.unflatten(0, (len(output.valid_T), -1))
