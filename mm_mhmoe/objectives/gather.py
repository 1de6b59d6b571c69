"""Rows of all ranks: all of them with gradients, or some by their places.

Shapes: B rows of this rank, G rows of all, N rows asked for, R ranks, P width.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.nn.functional import all_gather

from mm_mhmoe.objectives.contrastive import Gather


def gather_over_ranks() -> Gather | None:
    """`gather_rows` where there are several ranks, else None."""
    return gather_rows if _are_several() else None


def gather_rows(own_BP: Tensor) -> tuple[Tensor, int]:
    """The rows of all ranks in the ranks' order, and the place of the own first row. Ranks may have unlike numbers.

    A row's gradient is the sum of what all ranks want of it; averaged over ranks, as data parallelism does with
    gradients of parameters, that is the gradient of the mean of their losses.
    """
    counts = _counts(own_BP)
    parts = all_gather(F.pad(own_BP, (0, 0, 0, max(counts) - len(own_BP))))
    rows_GP = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
    return rows_GP, sum(counts[: dist.get_rank()])


def take_rows(own_B: Tensor, places_N: Tensor) -> Tensor:
    """Rows by their places among those of all ranks in the ranks' order, each sent by the rank that has it: (N, ...).

    All ranks call this at the same time; N may differ. There is no gradient.
    """
    if not _are_several():
        return own_B[places_N]
    end_R = torch.tensor(_counts(own_B), device=places_N.device).cumsum(0)
    owner_N = torch.bucketize(places_N, end_R, right=True)
    order_N = owner_N.argsort(stable=True)
    inside_N = places_N - F.pad(end_R, (1, 0))[owner_N]
    asked_R = owner_N.bincount(minlength=len(end_R))
    wanted_R = torch.empty_like(asked_R)
    dist.all_to_all_single(wanted_R, asked_R)
    asked, wanted = asked_R.tolist(), wanted_R.tolist()
    requests = inside_N.new_empty(sum(wanted))
    dist.all_to_all_single(requests, inside_N[order_N], wanted, asked)
    found_N = own_B.new_empty(len(places_N), *own_B.shape[1:])
    dist.all_to_all_single(found_N, own_B[requests], asked, wanted)
    return found_N[order_N.argsort()]


def largest(number: int, device: torch.device) -> int:
    """The largest of all ranks' numbers."""
    if not _are_several():
        return number
    found = torch.tensor(number, device=device)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return int(found)


def _are_several() -> bool:
    return dist.is_initialized() and dist.get_world_size() > 1


def _counts(own_B: Tensor) -> list[int]:
    """How many rows each rank has."""
    size = torch.tensor([len(own_B)], device=own_B.device)
    sizes = [torch.zeros_like(size) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, size)
    return [int(count) for count in sizes]
