"""Rows of all ranks, with gradients. Shapes: B rows of this rank, G rows of all, P width."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.nn.functional import all_gather

from mm_mhmoe.objectives.contrastive import Gather


def gather_over_ranks() -> Gather | None:
    """`gather_rows` where there are several ranks, else None."""
    return gather_rows if dist.is_initialized() and dist.get_world_size() > 1 else None


def gather_rows(own_BP: Tensor) -> tuple[Tensor, int]:
    """The rows of all ranks in the ranks' order, and the place of the own first row. Ranks may have unlike numbers.

    A row's gradient is the sum of what all ranks want of it; averaged over ranks, as data parallelism does with
    gradients of parameters, that is the gradient of the mean of their losses.
    """
    size = torch.tensor([len(own_BP)], device=own_BP.device)
    sizes = [torch.zeros_like(size) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, size)
    counts = [int(count) for count in sizes]
    parts = all_gather(F.pad(own_BP, (0, 0, 0, max(counts) - len(own_BP))))
    rows_GP = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
    return rows_GP, sum(counts[: dist.get_rank()])
