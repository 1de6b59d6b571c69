"""How large the experts of a sparse FFN must be to compare it with another FFN: exact integer arithmetic.

A size counts matrices only. Biases and LayerNorms are left out, as in the papers; a router is given as separate
numbers, because it is no part of what they hold equal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Parity = Literal["flops", "params", "none"]


MATRICES = {"gelu": 2, "swiglu": 3}
"""Matrices of an FFN or an expert by its activation."""


@dataclass(frozen=True, kw_only=True)
class FFNSize:
    """The size of one FFN: dense (one expert), a sparse mixture (SMoE), or MH-MoE (several heads).

    Args:
        dim: width of a token.
        hidden: hidden size of one expert.
        experts: how many there are to choose from; 1: a dense FFN, without a router.
        top_k: experts that each (sub-)token is sent to.
        heads: sub-tokens of a token; an expert is dim / heads wide.
        projection_layers: dim x dim maps in the multi-head layer and in the merge layer each.
        matrices: of one expert: 2 (GELU, ReLU) or 3 (SwiGLU and other gated ones).
        shared_experts: experts that every (sub-)token goes through as well.
    """

    dim: int
    hidden: int
    experts: int = 1
    top_k: int = 1
    heads: int = 1
    projection_layers: int = 0
    matrices: int = 2
    shared_experts: int = 0

    def __post_init__(self) -> None:
        least = {"dim": 1, "hidden": 0, "experts": 1, "top_k": 1, "heads": 1, "projection_layers": 0}
        for name, lowest in {**least, "shared_experts": 0}.items():
            if getattr(self, name) < lowest:
                raise ValueError(f"{name}={getattr(self, name)} must be {lowest} or more")
        if self.dim % self.heads:
            raise ValueError(f"dim={self.dim} cannot be split into heads={self.heads} sub-tokens; use a divisor of dim")
        if self.top_k > self.experts:
            raise ValueError(f"top_k={self.top_k} is more than experts={self.experts}; lower one or raise the other")
        if self.matrices not in (2, 3):
            raise ValueError(f"matrices={self.matrices} must be 2 (GELU) or 3 (SwiGLU)")

    @property
    def width(self) -> int:
        """Width of what an expert takes: of a token or a sub-token."""
        return self.dim // self.heads

    @property
    def projections(self) -> int:
        """Parameters of multi-head and merge layer together, which are also their MACs per token."""
        return 2 * self.projection_layers * self.dim**2

    @property
    def parameters(self) -> int:
        return self.projections + (self.experts + self.shared_experts) * self.matrices * self.width * self.hidden

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one token; one is two FLOPs."""
        used = self.heads * (self.top_k + self.shared_experts)
        return self.projections + used * self.matrices * self.width * self.hidden

    @property
    def router_parameters(self) -> int:
        """Of a linear router; nothing chooses where there is one expert."""
        return self.width * self.experts if self.experts > 1 else 0

    @property
    def router_macs(self) -> int:
        return self.heads * self.router_parameters


@dataclass(frozen=True, kw_only=True)
class Solution:
    """A size and what it was made to match. Mismatches are relative: 0.03 is 3 % more than the reference."""

    parity: Parity
    size: FFNSize
    reference: FFNSize

    @property
    def parameter_mismatch(self) -> float:
        return self.size.parameters / self.reference.parameters - 1

    @property
    def flop_mismatch(self) -> float:
        return self.size.macs / self.reference.macs - 1

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return {
            **asdict(self),
            "mismatch": {"parameters": self.parameter_mismatch, "flops": self.flop_mismatch},
            "router": {"parameters": self.size.router_parameters, "macs": self.size.router_macs},
        }


def solve(
    reference: FFNSize,
    wanted: FFNSize,
    *,
    parity: Parity,
    hidden_multiple: int = 1,
    expert_multiple: int | None = None,
) -> Solution:
    """Fits `wanted` to a dense or sparse reference.

    Args:
        reference: what the cost is compared with.
        wanted: the layer; its `hidden` is replaced unless parity is none.
        parity: flops: the largest hidden size that costs no more per token than the reference. params: the hidden size
            whose parameters are nearest to the reference's. none: as given.
        hidden_multiple: only multiples of this are hidden sizes.
        expert_multiple: with flops, also replaces `wanted.experts` by the multiple of this number whose parameters are
            nearest to the reference's (arXiv 2411.16205, section 2.3); the cost of a token does not change.

    Raises:
        ValueError: there is no such size, or expert_multiple was given where nothing is left to solve with it.
    """
    if expert_multiple is not None and parity != "flops":
        raise ValueError(
            f"expert_multiple={expert_multiple} solves the number of experts under parity=flops; under parity={parity} "
            "it is given: leave it out"
        )
    for name, multiple in (("hidden_multiple", hidden_multiple), ("expert_multiple", expert_multiple)):
        if multiple is not None and multiple < 1:
            raise ValueError(f"{name}={multiple} must be 1 or more")
    if parity != "none":
        hidden = solve_hidden(reference, wanted, parity, hidden_multiple)
        if hidden < 1:
            used = f"top_k={wanted.top_k}" if parity == "flops" else f"experts={wanted.experts}"
            raise ValueError(
                f"parity={parity}: a reference of hidden={reference.hidden} leaves no hidden size for {used} and "
                f"projection_layers={wanted.projection_layers}; lower one of them or take a larger reference"
            )
        wanted = replace(wanted, hidden=hidden)
    if expert_multiple is not None:
        wanted = replace(wanted, experts=solve_experts(reference, wanted, expert_multiple))
    return Solution(parity=parity, size=wanted, reference=reference)


def solve_hidden(reference: FFNSize, wanted: FFNSize, parity: Parity, multiple: int = 1) -> int:
    """The hidden size under parity flops or params, a multiple of that number; below 1 where there is none."""
    if parity == "flops":
        return multiple * _largest(lambda n: replace(wanted, hidden=multiple * n).macs, reference.macs)
    return multiple * _nearest(lambda n: replace(wanted, hidden=multiple * n).parameters, reference.parameters)


def solve_experts(reference: FFNSize, wanted: FFNSize, multiple: int = 1) -> int:
    """The multiple whose parameters are nearest to the reference's, and not below top_k."""
    free = replace(wanted, top_k=1)
    least = -(-wanted.top_k // multiple)
    count = _nearest(lambda n: replace(free, experts=multiple * (n + 1)).parameters, reference.parameters) + 1
    return multiple * max(least, count)


def _largest(cost: Callable[[int], int], budget: int) -> int:
    """The largest n with cost(n) <= budget; cost grows by the same amount at each step from cost(0)."""
    return (budget - cost(0)) // (cost(1) - cost(0))


def _nearest(cost: Callable[[int], int], target: int) -> int:
    """The n whose cost is nearest to the target, the smaller of two; cost as in `_largest`."""
    below = _largest(cost, target)
    start, step = cost(0), cost(1) - cost(0)
    miss_below, miss_above = target - (start + below * step), start + (below + 1) * step - target
    return below if miss_below <= miss_above else below + 1
