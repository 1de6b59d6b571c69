"""Routing as sums over groups of tokens. Sums add up over batches and over ranks; what is reported follows from them.

Where pictures, texts or pairs have experts of their own, each of these pools is counted apart, with the tokens that it
gets: what is even in a pool says nothing about another.

Shapes: T tokens, H sub-tokens a token, S = T H, E experts, K choices of a sub-token, G groups of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from mm_mhmoe.models.encoder import EncoderOutput, LayerRouting
from mm_mhmoe.models.upcycling.layers import WAYS, Place


@dataclass(frozen=True, kw_only=True)
class RoutingSums:
    """Sums over the real tokens of each group, in one sparse layer or one of its pools, as floats.

    tokens_G:     tokens.
    made_G:       choices that their sub-tokens made.
    computed_GE:  choices that each expert computed: not those that a full expert dropped or that were not taken.
    alone_G:      sub-tokens that no expert computed.
    distinct_G:   different experts among the first choices of a token's sub-tokens, summed over tokens.
    reached_G:    different experts that computed something of a token, summed over tokens.
    first_GHE:    first choices of each head's sub-tokens.
    """

    tokens_G: Tensor
    made_G: Tensor
    computed_GE: Tensor
    alone_G: Tensor
    distinct_G: Tensor
    reached_G: Tensor
    first_GHE: Tensor

    def __add__(self, other: RoutingSums) -> RoutingSums:
        return RoutingSums(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def double(self) -> RoutingSums:
        """On the CPU in float64, in which sums over any number of batches stay exact."""
        return RoutingSums(**{f.name: getattr(self, f.name).cpu().double() for f in fields(self)})


def place_name(place: Place) -> str:
    """The layer's number, from 1, and whose experts they are, if they do not serve all."""
    return str(place + 1) if isinstance(place, int) else f"{place[0] + 1} {place[1]}"


def first_choices(output: EncoderOutput, layer: LayerRouting) -> Tensor:
    """The expert with the largest weight for every sub-token: (T, H), in the order of the flat tokens, by its number in
    the pool that the token goes to.

    A choice that was dropped, or not taken, still counts: it is what the sub-token looks like to the router.
    """
    experts_SK, weights_SK = layer.routing.experts_SK, layer.routing.weights_SK
    best_S = experts_SK.gather(1, weights_SK.argmax(dim=1, keepdim=True)).squeeze(1)
    return best_S.unflatten(0, (len(output.valid_T), -1)) % _pool_size(layer)


def _pool_size(layer: LayerRouting) -> int:
    return layer.routing.each_pool[0].num_experts


def distinct_experts(experts_TN: Tensor, num_experts: int) -> Tensor:
    """How many different experts each row names: (T,), int64. An entry of num_experts is nobody."""
    marked_TE = torch.zeros(len(experts_TN), num_experts + 1, dtype=torch.bool, device=experts_TN.device)
    return marked_TE.scatter_(1, experts_TN, True)[:, :num_experts].sum(dim=1)


@torch.no_grad()
def routing_sums(output: EncoderOutput, group_TG: Tensor) -> dict[Place, RoutingSums]:
    """Sums of every sparse layer by its block's index, or of every pool of its experts by index and `WAYS`; empty for a
    dense encoder. A pool that gets no token is there all the same.

    In fp32, exact up to 16 million choices a batch.

    Args:
        group_TG: which tokens are in which group. Padding counts in none, whatever stands there.
    """
    member_TG = group_TG & output.valid_T.unsqueeze(1)
    found: dict[Place, RoutingSums] = {}
    for layer in output.routing:
        size, experts = _pool_size(layer), layer.routing.num_experts
        if size == experts:
            found[layer.layer] = _pool_sums(output, layer, member_TG, 0)
            continue
        # All choices of a token lie in one pool.
        pool_T = layer.routing.experts_SK[:, 0].unflatten(0, (len(output.valid_T), -1))[:, 0] // size
        for pool, way in zip(range(experts // size), WAYS, strict=False):
            inside_TG = member_TG & (pool_T == pool).unsqueeze(1)
            found[layer.layer, way] = _pool_sums(output, layer, inside_TG, pool * size)
    return found


def _pool_sums(output: EncoderOutput, layer: LayerRouting, member_TG: Tensor, first: int) -> RoutingSums:
    """Sums over tokens whose experts are the `_pool_size` ones from `first` on."""
    tokens, size = len(output.valid_T), _pool_size(layer)
    member_TG = member_TG.float()

    def summed(values: Tensor) -> Tensor:
        # Not a matrix product, which an autocast would do in bf16.
        weight_TG = member_TG.view(tokens, -1, *(1 for _ in values.shape[1:]))
        return torch.stack([(values * weight_TG[:, g]).sum(dim=0) for g in range(member_TG.shape[1])])

    target_SK = layer.routing.target_SK - first
    target_SK = target_SK.masked_fill((target_SK < 0) | (target_SK > size), size)  # other pools, and nobody
    target_TN = target_SK.reshape(tokens, -1)
    counts_TE = torch.zeros(tokens, size + 1, device=target_SK.device)
    counts_TE.scatter_add_(1, target_TN, torch.ones_like(target_TN, dtype=counts_TE.dtype))
    first_TH = first_choices(output, layer)
    alone_TH = (target_SK == size).all(dim=1).view(tokens, -1)
    tokens_G = member_TG.sum(dim=0)
    return RoutingSums(
        tokens_G=tokens_G,
        made_G=tokens_G * target_TN.shape[1],
        computed_GE=summed(counts_TE[:, :size]),
        alone_G=summed(alone_TH.sum(dim=1).float()),
        distinct_G=summed(distinct_experts(first_TH, size).float()),
        reached_G=summed((counts_TE[:, :size] > 0).sum(dim=1).float()),
        first_GHE=summed(F.one_hot(first_TH, size).float()),
    )
