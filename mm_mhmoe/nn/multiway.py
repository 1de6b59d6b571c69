"""Weights of their own for pictures, for texts, and for pairs: Multiway (arXiv 2208.10442, section 2.1).

Legend: T tokens, D model dim, H heads of MH-MoE, S = T H sub-tokens, E experts, K choices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mm_mhmoe.nn.routing import Routing
from mm_mhmoe.nn.segments import Segment, join_modalities, split_modalities


class Multiway(nn.Module):
    """Layers of one kind: `image` for the tokens of pictures, `text` for those of texts.

    Args:
        pair: for all tokens of pairs, which then go through neither of the others (the vision-language expert).
    """

    def __init__(self, image: nn.Module, text: nn.Module, pair: nn.Module | None = None) -> None:
        super().__init__()
        self.image = image
        self.text = text
        self.pair = pair

    def forward(self, x_TD: Tensor, segments: Sequence[Segment]) -> Tensor:
        """(T, D) -> (T, ...). A way without tokens is not computed."""
        parts = split_modalities(x_TD, segments, pairs_apart=self.pair is not None)
        if sum(len(part_TD) > 0 for part_TD in parts) <= 1:
            return ways(self)[_only(parts)](x_TD)
        outputs = [layer(part) if len(part) else part for layer, part in zip(ways(self), parts, strict=True)]
        return join_modalities(outputs[0], outputs[1], segments, *outputs[2:])


class MultiwayMoE(nn.Module):
    """Sparse layers of one kind and size, each with a router and experts of its own.

    Their routing is one, of all (sub-)tokens in the order of the flat list, over the experts of all: those of pictures
    first. `Routing.pools` has them apart.

    Args:
        pair: as in `Multiway`.
    """

    def __init__(self, image: nn.Module, text: nn.Module, pair: nn.Module | None = None) -> None:
        super().__init__()
        self.image = image
        self.text = text
        self.pair = pair

    def forward(
        self, x_TD: Tensor, segments: Sequence[Segment], valid_T: Tensor | None = None
    ) -> tuple[Tensor, Routing]:
        """(T, D) -> (T, D) and the routing. A way without tokens is not computed."""
        layers, apart = ways(self), self.pair is not None
        inputs = split_modalities(x_TD, segments, pairs_apart=apart)
        valid: Sequence[Tensor | None] = [None] * len(layers)
        if valid_T is not None:
            valid = split_modalities(valid_T, segments, pairs_apart=apart)
        outputs: list[Tensor] = []
        routings: list[Routing | None] = []
        for layer, part_TD, part_T in zip(layers, inputs, valid, strict=True):
            y_TD, routing = layer(part_TD, part_T) if len(part_TD) else (part_TD, None)
            outputs.append(y_TD)
            routings.append(routing)
        pools = tuple(routing for routing in routings if routing is not None)
        widened = [r and _widened(r, way, len(layers)) for way, r in enumerate(routings)]
        if len(pools) == 1:
            only = _only(inputs)
            joined = widened[only]
            assert joined is not None
            return outputs[only], replace(joined, pools=pools)
        joined = _joined(widened, segments, len(x_TD))
        return join_modalities(outputs[0], outputs[1], segments, *outputs[2:]), replace(joined, pools=pools)


def each_modality(make: Callable[[], nn.Module], multiway: bool) -> nn.Module:
    """What `make` makes, or with multiway one for each modality."""
    return Multiway(make(), make()) if multiway else make()


def by_modality(module: nn.Module, x_TD: Tensor, segments: Sequence[Segment]) -> Tensor:
    """The layer on all tokens; where it is Multiway, each of its two on its own."""
    return module(x_TD, segments) if isinstance(module, Multiway) else module(x_TD)


def ways(module: nn.Module) -> list[nn.Module]:
    """The layer itself, or the two or three of a Multiway one."""
    if not isinstance(module, Multiway | MultiwayMoE):
        return [module]
    return [module.image, module.text] + ([] if module.pair is None else [module.pair])


def _only(parts: Sequence[Tensor]) -> int:
    """Which part has tokens; the first if none has."""
    return next((way for way, part_TD in enumerate(parts) if len(part_TD)), 0)


def _widened(routing: Routing, way: int, of: int) -> Routing:
    """The same choices among `of` times as many experts, of which these are the way-th part."""
    experts = routing.num_experts
    columns = (way * experts, (of - 1 - way) * experts)
    return Routing(
        logits_SE=F.pad(routing.logits_SE, columns, value=float("-inf")),
        prob_SE=F.pad(routing.prob_SE, columns),
        experts_SK=routing.experts_SK + way * experts,
        weights_SK=routing.weights_SK,
        valid_S=routing.valid_S,
        sent_SK=routing.sent_SK,
    )


def _joined(routings: Sequence[Routing | None], segments: Sequence[Segment], tokens: int) -> Routing:
    there = [routing for routing in routings if routing is not None]
    heads = sum(len(routing.prob_SE) for routing in there) // tokens

    def join(of: Callable[[Routing], Tensor]) -> Tensor:
        nothing = of(there[0])[:0]
        parts = [(nothing if r is None else of(r)).unflatten(0, (-1, heads)) for r in routings]
        return join_modalities(parts[0], parts[1], segments, *parts[2:]).flatten(0, 1)

    def join_flags(of: Callable[[Routing], Tensor | None], like: Callable[[Routing], Tensor]) -> Tensor | None:
        if all(of(routing) is None for routing in there):
            return None

        def flags(routing: Routing) -> Tensor:
            found = of(routing)
            return torch.ones_like(like(routing), dtype=torch.bool) if found is None else found

        return join(flags)

    return Routing(
        logits_SE=join(lambda r: r.logits_SE),
        prob_SE=join(lambda r: r.prob_SE),
        experts_SK=join(lambda r: r.experts_SK),
        weights_SK=join(lambda r: r.weights_SK),
        valid_S=join_flags(lambda r: r.valid_S, lambda r: r.experts_SK[:, 0]),
        sent_SK=join_flags(lambda r: r.sent_SK, lambda r: r.experts_SK),
    )
