"""How much an expert tells of the group that a token is from, such as its language. Legend: G groups, E experts."""

from __future__ import annotations

import torch
from torch import Tensor


def choices_by_group(group_T: Tensor, first_TH: Tensor, groups: int, num_experts: int) -> Tensor:
    """How often sub-tokens of each group choose each expert first: (G, E), int64."""
    cell_TH = group_T.unsqueeze(1) * num_experts + first_TH
    return torch.bincount(cell_TH.flatten(), minlength=groups * num_experts).view(groups, num_experts)


def information(counts_GE: Tensor) -> float:
    """Mutual information of expert and group in bits, where all groups count alike (their Jensen-Shannon divergence): 0
    where all groups use experts alike, at most log2 of the smaller number. A group without tokens does not count."""
    filled_GE = counts_GE[counts_GE.sum(dim=1) > 0].double()
    share_GE = filled_GE / filled_GE.sum(dim=1, keepdim=True)
    mean_E = share_GE.mean(dim=0)
    return (_entropy(mean_E) - torch.stack([_entropy(share_E) for share_E in share_GE]).mean()).item()


def _entropy(share_E: Tensor) -> Tensor:
    return -(share_E * share_E.clamp(min=1e-300).log2()).sum()
