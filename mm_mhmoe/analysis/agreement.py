"""Whether two encoders route the same tokens alike. Legend: N sub-tokens, T tokens, H heads, E experts."""

from __future__ import annotations

import torch
from torch import Tensor


def equal_share(a_TH: Tensor, b_TH: Tensor) -> float:
    """Share of the sub-tokens with the same first choice in both.

    Expert and head numbers mean the same only in checkpoints of one training; elsewhere this is chance.

    Raises:
        ValueError: the two hold different numbers of tokens or heads.
    """
    if a_TH.shape != b_TH.shape:
        raise ValueError(f"first choices of shape {tuple(a_TH.shape)} and {tuple(b_TH.shape)} cannot be compared")
    return (a_TH == b_TH).double().mean().item()


def chance_of_equal(a_TH: Tensor, b_TH: Tensor) -> float:
    """What `equal_share` would be if both chose as often as they do, but without regard to the tokens."""
    num_experts = int(max(a_TH.max(), b_TH.max())) + 1
    share = [
        torch.stack([head_T.bincount(minlength=num_experts) for head_T in x_TH.t()]).double() / len(x_TH)
        for x_TH in (a_TH, b_TH)
    ]
    return (share[0] * share[1]).sum(dim=1).mean().item()


def normalised_mutual_information(a_N: Tensor, b_N: Tensor) -> float:
    """I(a; b) / sqrt(H(a) H(b)) of two labellings (Strehl and Ghosh 2002): 1 when each tells the other, 0 when neither.

    Renaming labels changes nothing. 0 when one of them is constant.
    """
    if a_N.shape != b_N.shape:
        raise ValueError(f"labellings of {len(a_N)} and {len(b_N)} things cannot be compared")
    width = int(b_N.max()) + 1
    joint = (a_N * width + b_N).bincount(minlength=(int(a_N.max()) + 1) * width).double().view(-1, width) / len(a_N)
    own_a, own_b = (torch.special.entr(joint.sum(dim=dim)).sum().item() for dim in (1, 0))
    if min(own_a, own_b) <= 0:
        return 0.0
    shared = own_a + own_b - torch.special.entr(joint).sum().item()
    return max(0.0, shared) / (own_a * own_b) ** 0.5


def best_head_information(a_TH: Tensor, b_TH: Tensor) -> float:
    """Mutual information of each head with the other encoder's head that tells most about it, averaged both ways.

    Head numbers are as arbitrary as expert numbers: sub-token 2 of one training has nothing to do with sub-token 2 of
    another. The two may differ in heads and experts. A maximum is above zero by chance alone: read it beside the
    value for `shuffled` tokens.
    """
    table = torch.tensor([[normalised_mutual_information(a, b) for b in b_TH.t()] for a in a_TH.t()])
    return 0.5 * (table.max(dim=0).values.mean() + table.max(dim=1).values.mean()).item()


def shuffled(a_TH: Tensor, *, seed: int) -> Tensor:
    """The same rows in a random order, so that nothing about the tokens is left."""
    return a_TH[torch.randperm(len(a_TH), generator=torch.Generator().manual_seed(seed))]
