"""Attention that knows how far apart two patches lie: BEiT's relative positions (arXiv 2106.08254).

Legend: N patches and [CLS], H attention heads, R kinds of pairs, B batch, L length of a row.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mm_mhmoe.nn.segments import Segment

# [CLS] to a patch, a patch to [CLS], [CLS] to itself: the last rows of the table.
CLS_ENTRIES = 3


class RelativePositions(nn.Module):
    """A learned addend to the scores of attention for every offset of two patches, and three for [CLS].

    Args:
        grid: patches along one side of a picture.
        num_heads: each head has addends of its own. They start at zero.
    """

    index_NN: Tensor

    def __init__(self, grid: int, num_heads: int) -> None:
        super().__init__()
        self.table_RH = nn.Parameter(torch.zeros((2 * grid - 1) ** 2 + CLS_ENTRIES, num_heads))
        self.register_buffer("index_NN", relative_index(grid), persistent=False)

    def forward(self) -> Tensor:
        """(H, N, N): query first."""
        return F.embedding(self.index_NN, self.table_RH).permute(2, 0, 1)


def relative_index(grid: int) -> Tensor:
    """Which row of the table a query and a key have: (N, N), [CLS] first. Offsets, query minus key, are row-major."""
    side = torch.arange(grid)
    rows, columns = side.repeat_interleave(grid), side.repeat(grid)
    down = rows[:, None] - rows + grid - 1
    right = columns[:, None] - columns + grid - 1
    width = 2 * grid - 1
    index_NN = torch.empty(1 + grid**2, 1 + grid**2, dtype=torch.long)
    index_NN[1:, 1:] = down * width + right
    index_NN[0], index_NN[:, 0], index_NN[0, 0] = width**2, width**2 + 1, width**2 + 2
    return index_NN


def additive_mask(bias_HNN: Tensor, seen: Tensor | None, segment: Segment, dtype: torch.dtype) -> Tensor:
    """The addends of a stream with pictures, as attention's mask: (1 or B, H, L, L).

    Only what lies between two tokens of the picture has an addend: texts have no place in a grid. What may not be
    seen is at minus infinity.

    Args:
        seen: True where a key may be seen, in a shape that broadcasts to (B, H, L, L); None: everywhere.

    Raises:
        ValueError: the stream's pictures have another number of patches.
    """
    if segment.image_length != bias_HNN.shape[-1]:
        raise ValueError(
            f"relative positions of {bias_HNN.shape[-1]} tokens for pictures of {segment.image_length} tokens"
        )
    behind = segment.length - segment.image_length
    mask_BHLL = F.pad(bias_HNN.to(dtype), (0, behind, 0, behind)).unsqueeze(0)
    return mask_BHLL if seen is None else mask_BHLL.masked_fill(~seen, float("-inf"))
