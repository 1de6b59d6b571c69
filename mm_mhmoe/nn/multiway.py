"""Weights of their own for pictures and for texts: Multiway (arXiv 2208.10442, section 2.1).

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
    """Two layers of one kind: `image` for the tokens of pictures, `text` for those of texts."""

    def __init__(self, image: nn.Module, text: nn.Module) -> None:
        super().__init__()
        self.image = image
        self.text = text

    def forward(self, x_TD: Tensor, segments: Sequence[Segment]) -> Tensor:
        """(T, D) -> (T, ...). A modality without tokens is not computed."""
        image_TD, text_TD = split_modalities(x_TD, segments)
        if not len(text_TD):
            return self.image(x_TD)
        if not len(image_TD):
            return self.text(x_TD)
        return join_modalities(self.image(image_TD), self.text(text_TD), segments)


class MultiwayMoE(nn.Module):
    """Two sparse layers of one kind and size, each with a router and experts of its own.

    Their routing is one, of all (sub-)tokens in the order of the flat list, over the experts of both: those of pictures
    first. `Routing.pools` has the two apart.
    """

    def __init__(self, image: nn.Module, text: nn.Module) -> None:
        super().__init__()
        self.image = image
        self.text = text

    def forward(
        self, x_TD: Tensor, segments: Sequence[Segment], valid_T: Tensor | None = None
    ) -> tuple[Tensor, Routing]:
        """(T, D) -> (T, D) and the routing. A modality without tokens is not computed."""
        inputs = split_modalities(x_TD, segments)
        valid = (None, None) if valid_T is None else split_modalities(valid_T, segments)
        outputs: list[Tensor] = []
        routings: list[Routing | None] = []
        for layer, part_TD, part_T in zip((self.image, self.text), inputs, valid, strict=True):
            y_TD, routing = layer(part_TD, part_T) if len(part_TD) else (part_TD, None)
            outputs.append(y_TD)
            routings.append(routing)
        image, text = routings
        pools = tuple(routing for routing in routings if routing is not None)
        if image is None or text is None:
            joined = _widened(pools[0], second=image is None)
            return outputs[int(image is None)], replace(joined, pools=pools)
        joined = _joined(_widened(image, second=False), _widened(text, second=True), segments, len(x_TD))
        return join_modalities(outputs[0], outputs[1], segments), replace(joined, pools=pools)


def each_modality(make: Callable[[], nn.Module], multiway: bool) -> nn.Module:
    """What `make` makes, or with multiway one for each modality."""
    return Multiway(make(), make()) if multiway else make()


def by_modality(module: nn.Module, x_TD: Tensor, segments: Sequence[Segment]) -> Tensor:
    """The layer on all tokens; where it is Multiway, each of its two on its own."""
    return module(x_TD, segments) if isinstance(module, Multiway) else module(x_TD)


def ways(module: nn.Module) -> list[nn.Module]:
    """The layer itself, or the two of a Multiway one."""
    return [module.image, module.text] if isinstance(module, Multiway | MultiwayMoE) else [module]


def _widened(routing: Routing, *, second: bool) -> Routing:
    """The same choices among twice as many experts, of which these are the first or the second half."""
    experts = routing.num_experts
    columns = (experts, 0) if second else (0, experts)
    return Routing(
        logits_SE=F.pad(routing.logits_SE, columns, value=float("-inf")),
        prob_SE=F.pad(routing.prob_SE, columns),
        experts_SK=routing.experts_SK + (experts if second else 0),
        weights_SK=routing.weights_SK,
        valid_S=routing.valid_S,
        sent_SK=routing.sent_SK,
    )


def _joined(image: Routing, text: Routing, segments: Sequence[Segment], tokens: int) -> Routing:
    heads = (len(image.prob_SE) + len(text.prob_SE)) // tokens

    def join(a_S: Tensor, b_S: Tensor) -> Tensor:
        return join_modalities(a_S.unflatten(0, (-1, heads)), b_S.unflatten(0, (-1, heads)), segments).flatten(0, 1)

    def join_flags(a: Tensor | None, b: Tensor | None, like_a: Tensor, like_b: Tensor) -> Tensor | None:
        if a is None and b is None:
            return None
        return join(
            torch.ones_like(like_a, dtype=torch.bool) if a is None else a,
            torch.ones_like(like_b, dtype=torch.bool) if b is None else b,
        )

    return Routing(
        logits_SE=join(image.logits_SE, text.logits_SE),
        prob_SE=join(image.prob_SE, text.prob_SE),
        experts_SK=join(image.experts_SK, text.experts_SK),
        weights_SK=join(image.weights_SK, text.weights_SK),
        valid_S=join_flags(image.valid_S, text.valid_S, image.experts_SK[:, 0], text.experts_SK[:, 0]),
        sent_SK=join_flags(image.sent_SK, text.sent_SK, image.experts_SK, text.experts_SK),
    )
