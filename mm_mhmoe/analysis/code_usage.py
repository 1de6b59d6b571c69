"""How a visual tokenizer uses its codes on pictures, and how much of its teacher they keep.

Shapes: B batch, N patches, V values of a patch's pixels, P teacher's width, K codes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mm_mhmoe.models.vector_quantizer import perplexity_of_counts


class CodeReport(NamedTuple):
    """used: codes that occur at all. cosine: of decoded codes to the teacher, mean over patches.

    one_code_cosine: what a single direction for all patches could reach; teachers whose features are alike everywhere
    have a high one, so only what lies above it is the work of the codes.
    """

    patches: int
    num_codes: int
    used: int
    perplexity: float
    cosine: float
    one_code_cosine: float


class CodeUsage:
    """Sums over batches of pictures."""

    def __init__(self, num_codes: int, patch_values: int, teacher_dim: int) -> None:
        self.counts_K = torch.zeros(num_codes, dtype=torch.int64)
        self._pixels_KV = torch.zeros(num_codes, patch_values)
        self._directions_P = torch.zeros(teacher_dim, dtype=torch.float64)
        self._cosines = 0.0

    def add(self, codes_BN: Tensor, patches_BNV: Tensor, target_BNP: Tensor, predicted_BNP: Tensor) -> Tensor:
        """Counts a batch. Gives the cosine of each patch's decoded code to its teacher: (B, N).

        Args:
            patches_BNV: pixels of the patches, in any scale.
            target_BNP: the teacher's features of them.
            predicted_BNP: what the decoder makes of the codes.
        """
        codes = codes_BN.flatten()
        self.counts_K += codes.bincount(minlength=len(self.counts_K))
        self._pixels_KV.index_add_(0, codes, patches_BNV.flatten(0, 1))
        self._directions_P += F.normalize(target_BNP.flatten(0, 1).double(), dim=-1).sum(dim=0)
        cosine_BN = F.cosine_similarity(predicted_BNP.float(), target_BNP.float(), dim=-1)
        self._cosines += cosine_BN.double().sum().item()
        return cosine_BN

    @property
    def mean_patches_KV(self) -> Tensor:
        """The average of the patches that a code was given to; zero where there were none."""
        return self._pixels_KV / self.counts_K.clamp(min=1).unsqueeze(1)

    def report(self) -> CodeReport:
        """Raises ValueError before any picture was added."""
        patches = int(self.counts_K.sum())
        if patches == 0:
            raise ValueError("code usage: no pictures were added; name shards that hold some")
        return CodeReport(
            patches=patches,
            num_codes=len(self.counts_K),
            used=int((self.counts_K > 0).sum()),
            perplexity=perplexity_of_counts(self.counts_K.double()).item(),
            cosine=self._cosines / patches,
            one_code_cosine=self._directions_P.norm().item() / patches,
        )
