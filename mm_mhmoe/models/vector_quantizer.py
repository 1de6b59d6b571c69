"""Vector quantisation with an L2-normalised codebook that follows its vectors by moving averages.

Shapes: N vectors, K codes, C code dim.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

REVIVE_BELOW = 0.02


class Quantized(NamedTuple):
    """codes_N: int64. vectors_NC: the chosen codes, with a straight-through gradient. commitment: scalar MSE."""

    codes_N: Tensor
    vectors_NC: Tensor
    commitment: Tensor


def unit(vectors: Tensor) -> Tensor:
    """Vectors of length one, in fp32."""
    return F.normalize(vectors.float(), dim=-1)


def perplexity(codes_N: Tensor) -> Tensor:
    """exp of the entropy of the codes in use: n codes used evenly give n, a collapsed codebook little."""
    return perplexity_of_counts(codes_N.bincount().float())


def perplexity_of_counts(counts_K: Tensor) -> Tensor:
    """The same from how often each code was used."""
    return torch.special.entr(counts_K / counts_K.sum()).sum().exp()


class VectorQuantizer(nn.Module):
    """Cosine codebook of BEiT-v2's VQ-KD (arXiv 2208.06366): unit vectors, k-means start, EMA, straight-through.

    The codebook has no gradient: `update` moves it, and the training loop calls that once a step.

    Args:
        decay: of the moving averages.
        revive_below: a code whose average share of a batch falls below this part of the uniform share is dead and is
            put on a vector of the batch (small data leaves many codes dead otherwise); 0 switches this off.
    """

    codebook_KC: Tensor
    share_K: Tensor

    def __init__(self, num_codes: int, dim: int, *, decay: float = 0.99, revive_below: float = REVIVE_BELOW) -> None:
        super().__init__()
        self.decay = decay
        self.revive_below = revive_below
        self.register_buffer("codebook_KC", F.normalize(torch.randn(num_codes, dim), dim=-1))
        self.register_buffer("share_K", torch.full((num_codes,), 1.0 / num_codes))

    @property
    def dead_share(self) -> float:
        """Average share of a batch below which a code counts as dead; without revival, what it is by default."""
        return (self.revive_below or REVIVE_BELOW) / len(self.codebook_KC)

    @property
    def used(self) -> Tensor:
        """Part of the codes that are not dead, by the moving averages of the last batches."""
        return (self.share_K > self.dead_share).float().mean()

    def assign(self, vectors_NC: Tensor) -> Tensor:
        """The code of the largest cosine for each vector, in fp32 whatever the autocast: (N, C) -> (N,)."""
        with torch.autocast(vectors_NC.device.type, enabled=False):
            return (vectors_NC.float() @ self.codebook_KC.t()).argmax(dim=1)

    def forward(self, vectors_NC: Tensor) -> Quantized:
        unit_NC = unit(vectors_NC)
        codes_N = self.assign(unit_NC.detach())
        chosen_NC = self.codebook_KC[codes_N]
        commitment = F.mse_loss(unit_NC, chosen_NC)
        return Quantized(codes_N, unit_NC + (chosen_NC - unit_NC).detach(), commitment)

    @torch.no_grad()
    def start(self, vectors_NC: Tensor, *, iterations: int = 10) -> None:
        """Spherical k-means on vectors of the first batches. Raises ValueError with fewer vectors than codes."""
        unit_NC = unit(vectors_NC)
        num_codes = len(self.codebook_KC)
        if len(unit_NC) < num_codes:
            raise ValueError(
                f"codebook start: {len(unit_NC)} vectors for {num_codes} codes; use a larger batch or fewer codes"
            )
        means_KC = unit_NC[torch.randperm(len(unit_NC), device=unit_NC.device)[:num_codes]].clone()
        for _ in range(iterations):
            nearest_N = (unit_NC @ means_KC.t()).argmax(dim=1)
            sums_KC = torch.zeros_like(means_KC).index_add_(0, nearest_N, unit_NC)
            filled_K = nearest_N.bincount(minlength=num_codes) > 0
            means_KC[filled_K] = F.normalize(sums_KC[filled_K], dim=-1)
        self.codebook_KC.copy_(means_KC)
        self.share_K.fill_(1.0 / num_codes)

    @torch.no_grad()
    def update(self, vectors_NC: Tensor, codes_N: Tensor, all_reduce: Callable[[Tensor], Tensor] = lambda x: x) -> int:
        """One moving-average step towards this batch. Gives the number of codes that were revived.

        Args:
            all_reduce: sums a tensor over ranks, so that every rank keeps the same codebook.
        """
        unit_NC = unit(vectors_NC)
        num_codes = len(self.codebook_KC)
        counts_K = all_reduce(codes_N.bincount(minlength=num_codes).float())
        sums_KC = all_reduce(torch.zeros_like(self.codebook_KC).index_add_(0, codes_N, unit_NC))
        self.share_K.lerp_(counts_K / counts_K.sum().clamp(min=1.0), 1.0 - self.decay)
        used_K = counts_K > 0
        moved_KC = torch.lerp(self.codebook_KC, F.normalize(sums_KC, dim=-1), 1.0 - self.decay)
        self.codebook_KC[used_K] = F.normalize(moved_KC[used_K], dim=-1)

        dead_K = self.share_K < (self.dead_share if self.revive_below else 0.0)
        revived = min(int(dead_K.sum()), len(unit_NC))
        if revived:
            picked_NC = unit_NC[torch.randperm(len(unit_NC), device=unit_NC.device)[:revived]]
            places = dead_K.nonzero().squeeze(1)[:revived]
            # The sum over ranks is the same on every rank; on one process it is the picked vector itself.
            self.codebook_KC[places] = F.normalize(all_reduce(picked_NC), dim=-1)
            self.share_K[places] = 1.0 / num_codes
        return revived
