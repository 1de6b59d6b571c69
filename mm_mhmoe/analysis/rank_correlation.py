"""Spearman's rank correlation. Legend: R resamples, N things."""

from __future__ import annotations

import torch
from torch import Tensor


def ranks(values_RN: Tensor) -> Tensor:
    """The rank of each value in its row, from 0; equal values share their mean rank."""
    sorted_RN = values_RN.sort(dim=-1).values
    below_RN = torch.searchsorted(sorted_RN, values_RN.contiguous(), right=False)
    not_above_RN = torch.searchsorted(sorted_RN, values_RN.contiguous(), right=True)
    return (below_RN + not_above_RN - 1).double() / 2


def spearman(x_RN: Tensor, y_RN: Tensor) -> Tensor:
    """Correlation of the ranks of every row: (R,). nan where a row of x or y is constant."""
    x_RN, y_RN = (_centred(ranks(values_RN)) for values_RN in (x_RN, y_RN))
    return (x_RN * y_RN).sum(dim=-1) / (x_RN.square().sum(dim=-1) * y_RN.square().sum(dim=-1)).sqrt()


def partial_spearman(x_RN: Tensor, y_RN: Tensor, given_RN: Tensor) -> Tensor:
    """Rank correlation of x and y with what `given` explains of both taken out, linearly in ranks: (R,)."""
    xy, xz, yz = spearman(x_RN, y_RN), spearman(x_RN, given_RN), spearman(y_RN, given_RN)
    return (xy - xz * yz) / ((1 - xz.square()) * (1 - yz.square())).sqrt()


def _centred(values_RN: Tensor) -> Tensor:
    return values_RN - values_RN.mean(dim=-1, keepdim=True)
