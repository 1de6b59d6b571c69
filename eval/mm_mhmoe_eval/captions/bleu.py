"""BLEU of captions (Papineni et al. 2002), as COCO's scorer computes it: one number for all captions together.

Legend: N captions, D draws of captions, S = 10 sums of each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from mm_mhmoe_eval.captions.ngrams import LONGEST, Ngrams, count_ngrams

Words = Sequence[str]

# COCO's, so that captions shorter than n words, and sets without a match, have a score.
_SMALL, _TINY = 1e-9, 1e-15


def bleu_sums(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> Tensor:
    """What BLEU is made of, for each caption: (N, S) in float64.

    How many of its n-grams are in a reference (n from 1 to 4), how many it has (4), its length, and that of the
    reference whose length is nearest; of two as near, the shorter.
    """
    rows = []
    for caption, own in zip(captions, references, strict=True):
        most: Ngrams = Counter()
        for reference in own:
            most |= count_ngrams(reference)
        found = [0] * LONGEST
        for ngram, count in (count_ngrams(caption) & most).items():
            found[len(ngram) - 1] += count
        there = [max(0, len(caption) - size + 1) for size in range(1, LONGEST + 1)]
        nearest = min((abs(len(reference) - len(caption)), len(reference)) for reference in own)[1]
        rows.append([*found, *there, len(caption), nearest])
    return torch.tensor(rows, dtype=torch.float64)


def bleu(sums_DS: Tensor) -> Tensor:
    """BLEU-1 to BLEU-4 of added-up sums: (D, S) -> (D, 4)."""
    found_D4, there_D4, length_D2 = sums_DS.split([LONGEST, LONGEST, 2], dim=1)
    precision_D4 = (found_D4 + _TINY) / (there_D4 + _SMALL)
    mean_D4 = precision_D4.log().cumsum(1) / torch.arange(1, LONGEST + 1)
    ratio_D1 = ((length_D2[:, 0] + _TINY) / (length_D2[:, 1] + _SMALL)).unsqueeze(1)
    return (mean_D4 + (1 - 1 / ratio_D1).clamp(max=0)).exp()
