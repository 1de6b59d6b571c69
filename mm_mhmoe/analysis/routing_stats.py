"""Where the (sub-)tokens of an encoder go: loads by layer and modality, and the statistics of a group of tokens.

Shapes: E experts, G groups of tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mm_mhmoe.analysis.load import active_share, load_entropy, max_over_mean
from mm_mhmoe.analysis.routing_sums import RoutingSums, routing_sums
from mm_mhmoe.analysis.token_groups import modality_groups
from mm_mhmoe.models.encoder import EncoderOutput
from mm_mhmoe.models.upcycling.layers import layer_of


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
    """Counts over all outputs; padding and dropped choices are left out. Empty for a dense encoder.

    The experts of a layer with several pools stand one pool after the other.
    """
    image: dict[int, Tensor] = {}
    text: dict[int, Tensor] = {}
    for output in outputs:
        pools: dict[int, list[Tensor]] = {}
        for place, sums in routing_sums(output, modality_groups(output)).items():
            pools.setdefault(layer_of(place), []).append(sums.computed_GE.long())
        for layer, parts in pools.items():
            for counts, found_E in zip((image, text), torch.cat(parts, dim=1), strict=True):
                counts[layer] = counts.get(layer, 0) + found_E
    return [LayerLoad(layer=layer, image_E=image[layer], text_E=text[layer]) for layer in sorted(image)]


def activated_share(loads: Sequence[LayerLoad], threshold: float) -> float:
    """Share of the experts of all layers with more than `threshold` times the uniform load of their layer."""
    return sum(active_share(load.all_E, threshold) for load in loads) / len(loads)


def group_statistics(
    sums: RoutingSums, group: int, thresholds: Sequence[float], *, experts_choose: bool = False
) -> dict[str, float]:
    """What one layer, or a pool of its experts, does with one group of tokens; empty when it gets no token of it.

    load_entropy, max_over_mean, active_THRESHOLD: see analysis/load.py.
    dropped:   share of the choices that were not computed (a full expert; the random second policy in training).
    alone:     share of the sub-tokens that no expert computed.
    diversity: different experts among the first choices of a token's sub-tokens, on average.
    reached:   different experts that computed something of a token, on average.

    Args:
        experts_choose: the router is expert choice; sub-tokens then make no choices, and `dropped` is left out.
    """
    tokens = sums.tokens_G[group].item()
    if not tokens:
        return {}
    counts_E, made = sums.computed_GE[group], sums.made_G[group].item()
    heads = sums.first_GHE.shape[1]
    found = {
        "load_entropy": load_entropy(counts_E),
        "max_over_mean": max_over_mean(counts_E),
        **{f"active_{threshold:g}": active_share(counts_E, threshold) for threshold in thresholds},
        "dropped": 1.0 - counts_E.sum().item() / made,
        "alone": sums.alone_G[group].item() / (tokens * heads),
        "diversity": sums.distinct_G[group].item() / tokens,
        "reached": sums.reached_G[group].item() / tokens,
    }
    if experts_choose:
        del found["dropped"]
    return found


def mean_statistics(layers: Sequence[dict[str, float]]) -> dict[str, float]:
    """Means over layers, or over pools, that see the group; a statistic that one of them has as nan is left out."""
    layers = [layer for layer in layers if layer]
    names = layers[0] if layers else {}
    means = {name: sum(layer.get(name, math.nan) for layer in layers) / len(layers) for name in names}
    return {name: value for name, value in means.items() if math.isfinite(value)}
