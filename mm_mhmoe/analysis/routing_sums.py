"""Routing as sums over groups of tokens. Sums add up over batches and over ranks; what is reported follows from them.

Shapes: T tokens, H sub-tokens a token, S = T H, E experts, K choices of a sub-token, G groups of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from mm_mhmoe.models.encoder import EncoderOutput, LayerRouting


@dataclass(frozen=True, kw_only=True)
class RoutingSums:
    """Sums over the real tokens of each group, in one sparse layer, as floats.

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


def first_choices(output: EncoderOutput, layer: LayerRouting) -> Tensor:
    """The expert with the largest weight for every sub-token: (T, H), in the order of the flat tokens.

    A choice that was dropped, or not taken, still counts: it is what the sub-token looks like to the router.
    """
    experts_SK, weights_SK = layer.routing.experts_SK, layer.routing.weights_SK
    best_S = experts_SK.gather(1, weights_SK.argmax(dim=1, keepdim=True)).squeeze(1)
    return best_S.unflatten(0, (len(output.valid_T), -1))


def distinct_experts(experts_TN: Tensor, num_experts: int) -> Tensor:
    """How many different experts each row names: (T,), int64. An entry of num_experts is nobody."""
    marked_TE = torch.zeros(len(experts_TN), num_experts + 1, dtype=torch.bool, device=experts_TN.device)
    return marked_TE.scatter_(1, experts_TN, True)[:, :num_experts].sum(dim=1)


@torch.no_grad()
def routing_sums(output: EncoderOutput, group_TG: Tensor) -> dict[int, RoutingSums]:
    """Sums of every sparse layer by its block's index; empty for a dense encoder.

    In fp32, exact up to 16 million choices a batch.

    Args:
        group_TG: which tokens are in which group. Padding counts in none, whatever stands there.
    """
    tokens = len(output.valid_T)
    member_TG = (group_TG & output.valid_T.unsqueeze(1)).float()

    def summed(values: Tensor) -> Tensor:
        # Not a matrix product, which an autocast would do in bf16.
        weight_TG = member_TG.view(tokens, -1, *(1 for _ in values.shape[1:]))
        return torch.stack([(values * weight_TG[:, g]).sum(dim=0) for g in range(group_TG.shape[1])])

    found = {}
    for layer in output.routing:
        routing = layer.routing
        num_experts = routing.num_experts
        target_SK = routing.target_SK
        target_TN = target_SK.reshape(tokens, -1)
        counts_TE = torch.zeros(tokens, num_experts + 1, device=target_SK.device)
        counts_TE.scatter_add_(1, target_TN, torch.ones_like(target_TN, dtype=counts_TE.dtype))
        first_TH = first_choices(output, layer)
        alone_TH = (target_SK == num_experts).all(dim=1).view(tokens, -1)
        tokens_G = member_TG.sum(dim=0)
        found[layer.layer] = RoutingSums(
            tokens_G=tokens_G,
            made_G=tokens_G * target_TN.shape[1],
            computed_GE=summed(counts_TE[:, :num_experts]),
            alone_G=summed(alone_TH.sum(dim=1).float()),
            distinct_G=summed(distinct_experts(first_TH, num_experts).float()),
            reached_G=summed((counts_TE[:, :num_experts] > 0).sum(dim=1).float()),
            first_GHE=summed(F.one_hot(first_TH, num_experts).float()),
        )
    return found
